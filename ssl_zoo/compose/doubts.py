"""What speaks against a figure that was measured: hardly any training, or a floor that does as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssl_zoo.leaderboard.standings import format_point
from ssl_zoo.pretrain import export
from ssl_zoo.transfer.report import Result, any_metric

PIXELS, TFIDF = "raw pixels", "TF-IDF"  # floors without a network


def untrained(where: Path) -> list[str]:
    """What the summary of a run says against measuring it: nothing, or that it hardly trained."""
    steps = export.read_summary(where / "summary.json").get("steps")
    if not isinstance(steps, int) or steps >= export.FEW:
        return []
    return [f"{where} was trained for {steps} step{'s' * (steps != 1)}: too few to teach it anything"]


def below_random(found: dict[str, Result]) -> list[str]:
    """What the floors of one point of a sweep say: nothing, or that random weights do as well."""
    name = next((name for name in ("from scratch", "random, frozen") if name in found), None)
    if name is None or found["pretrained"].mean > found[name].mean:
        return []
    ours, floor = found["pretrained"], found[name]
    what = f"{ours.protocol} with {'all' if ours.labels is None else ours.labels} labels"
    return [f"{what}: pretrained ({ours.text()}) is no better than random weights ({name}: {floor.text()})"]


def below_simple(points: Sequence[dict[str, Result]]) -> list[str]:
    """What a floor without any network says: nothing, or at which points of a sweep it does as well."""
    doubts = []
    for name in (PIXELS, TFIDF):
        ahead = [one for one in points if name in one and one[name].mean >= one["pretrained"].mean]
        if ahead:
            where = "; ".join(format_point(one[name].labels, one["pretrained"].steps) for one in ahead)
            doubts.append(f"{name}, without any pretraining, is as good as pretrained, or better: {where}")
    return doubts


def below_chance(found: dict[str, Result]) -> list[str]:
    """What a measure that knows chance says: nothing, or that it may be no better."""
    return [
        f"{one.protocol}: {name} ({one.text()}) is no better than chance "
        f"({any_metric(one.metric).text(chance)})"
        for name, one in found.items()
        for chance, (low, _) in zip(
            one.others.get("chance", ()), one.details.get("interval", ()), strict=False
        )
        if low <= chance
    ]
