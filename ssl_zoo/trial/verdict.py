"""What the figures say: which way is best, what it gains over doing without, and how sure that is.

Every choice is made on validation rows: which way to pretrain, and which floor it has to beat. Test rows are
read once for each figure, and say how large the gain is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ssl_zoo.transfer.efficiency import Saved, labels_saved
from ssl_zoo.transfer.report import interval

Labels = int | float | None  # a class, or a share of all; None for all there are


@dataclass(frozen=True)
class Figure:
    """One way at one label budget.

    Attributes:
        line: the name of the way. how: "linear probe", "fine-tuned", ...
        pretrained: whether it learned from data without labels; False for floors.
        labels: a class; None for all.
        values: accuracy on test, one for each draw of labels.
        validation: accuracy on validation of what was chosen, mean over draws.
        rows: of the test split.
        seconds: wall time of the measurement.
    """

    line: str
    how: str
    pretrained: bool
    labels: Labels
    values: tuple[float, ...]
    validation: float
    rows: int
    seconds: float

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def half(self) -> float:
        """Half of the 95 % interval: the draws of labels and the draw of the test rows, added in squares."""
        span = interval(self.values)
        drawn = 0.0 if span is None else (span[1] - span[0]) / 2
        return math.hypot(drawn, 1.959964 * math.sqrt(self.mean * (1 - self.mean) / self.rows))

    @property
    def title(self) -> str:
        return f"{self.line}, {self.how}"


@dataclass(frozen=True)
class Gain:
    """Pretraining against the best way without it, at one label budget. Fractions; half: of the interval."""

    labels: Labels
    ours: Figure
    floor: Figure

    @property
    def mean(self) -> float:
        return self.ours.mean - self.floor.mean

    @property
    def half(self) -> float:
        """Half of the 95 % interval. Draws are paired by seed where both have the same number of them; test
        rows are taken as drawn anew for each, which makes the interval rather too wide."""
        ours, floor = self.ours, self.floor
        if len(ours.values) == len(floor.values):
            pairs = [a - b for a, b in zip(ours.values, floor.values, strict=True)]
            span = interval(pairs)
            drawn = 0.0 if span is None else (span[1] - span[0]) / 2
            rows = math.hypot(*(math.sqrt(one.mean * (1 - one.mean) / one.rows) for one in (ours, floor)))
            return math.hypot(drawn, 1.959964 * rows)
        return math.hypot(ours.half, floor.half)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0, else 0."""
        return 0 if abs(self.mean) <= self.half else 1 if self.mean > 0 else -1


@dataclass(frozen=True)
class Verdict:
    """What is recommended.

    Attributes:
        winner: the way of pretraining that is best on validation; None where none could be measured.
        gains: over the best floor, at each label budget, fewest labels first.
        saved: what each point of the winner's curve is worth in labels of the floors.
        sentences: the recommendation, and what speaks against it.
    """

    winner: str | None
    gains: tuple[Gain, ...]
    saved: tuple[Saved, ...]
    sentences: tuple[str, ...]


def strongest(figures: Iterable[Figure]) -> dict[Labels, Figure]:
    """At each label budget the figure that is best on validation, fewest labels first."""
    best: dict[Labels, Figure] = {}
    for one in figures:
        if one.labels not in best or one.validation > best[one.labels].validation:
            best[one.labels] = one
    return dict(sorted(best.items(), key=lambda pair: amount(pair[0], math.inf)))


def standing(figures: Sequence[Figure]) -> list[str]:
    """The names of the ways, best first: by the mean, over label budgets, of their best validation score."""
    names = list(dict.fromkeys(one.line for one in figures))
    curves = {name: strongest(one for one in figures if one.line == name) for name in names}
    return sorted(names, key=lambda name: -fmean(one.validation for one in curves[name].values()))


def judge(figures: Sequence[Figure], all_labels: float) -> Verdict:
    """What the figures say.

    Args:
        figures: of all ways and floors.
        all_labels: labelled rows a class, in the mean, where all are taken.
    """
    ours = [one for one in figures if one.pretrained]
    floors = strongest(one for one in figures if not one.pretrained)
    if not ours or not floors:
        return Verdict(None, (), (), ("Nothing can be said: no way of pretraining was measured.",))
    winner = standing(ours)[0]
    curve = strongest(one for one in ours if one.line == winner)
    gains = tuple(Gain(labels, curve[labels], floors[labels]) for labels in curve if labels in floors)
    saved = tuple(labels_saved(points(curve, all_labels), points(floors, all_labels)))
    return Verdict(winner, gains, saved, (*recommended(winner, gains), *doubts(gains)))


def points(curve: dict[Labels, Figure], all_labels: float) -> list[tuple[float, float]]:
    """A curve as (labels a class, accuracy in %); a budget as large as all is left out."""
    found = [(amount(labels, all_labels), 100 * one.mean) for labels, one in curve.items()]
    return [point for i, point in enumerate(found) if i == 0 or point[0] > found[i - 1][0]]


def amount(labels: Labels, all_labels: float) -> float:
    """A label budget as labels a class; of shares, `all_labels` may be any that is large enough to order."""
    if labels is None:
        return float(all_labels)
    return labels * min(all_labels, 1e9) if isinstance(labels, float) else float(labels)


def said(labels: Labels) -> str:
    """A label budget in words."""
    if isinstance(labels, float):
        return f"{100 * labels:g} % of the labels"
    return "all labels" if labels is None else f"{labels} label{'s' * (labels != 1)} a class"


def brief(labels: Labels) -> str:
    """A label budget as the heading of a column."""
    if isinstance(labels, float):
        return f"{100 * labels:g} %"
    return "all" if labels is None else f"{labels} a class"


def told(gain: Gain) -> str:
    """A gain in words, with both figures."""
    return (
        f"with {said(gain.labels)} {100 * gain.ours.mean:.1f} % instead of {100 * gain.floor.mean:.1f} % "
        f"({gain.floor.title}), {100 * gain.mean:+.1f} ± {100 * gain.half:.1f} points"
    )


def recommended(winner: str, gains: Sequence[Gain]) -> list[str]:
    """The recommendation, and the figures that it rests on."""
    won, lost, level = ([gain for gain in gains if gain.sign == sign] for sign in (1, -1, 0))
    if won and len(won) == len(gains):
        head = f"Pretraining is worth it here, at every number of labels: take {winner}"
    elif won and lost:
        head = (
            f"Pretraining is worth it with {', '.join(said(one.labels) for one in won)}, and costs accuracy "
            f"with {', '.join(said(one.labels) for one in lost)}: take {winner} only for the former"
        )
    elif won:
        head = f"Pretraining is worth it with {', '.join(said(one.labels) for one in won)}: take {winner}"
    elif lost and level:
        head = (
            f"Pretraining costs accuracy in this time with {', '.join(said(one.labels) for one in lost)}, "
            f"and makes no difference that can be told with {', '.join(said(one.labels) for one in level)}: "
            f"{winner} was the best way"
        )
    elif lost:
        head = f"Pretraining is not worth it in this time: {winner}, the best way, is no better anywhere"
    else:
        head = f"No gain can be told from chance: {winner} was the best way, and is not clearly better"
    return [f"{head}.", *(f"{told(gain)[0].upper()}{told(gain)[1:]}." for gain in gains)]


def doubts(gains: Sequence[Gain]) -> list[str]:
    """What speaks against the figures."""
    found = []
    rows = min(gain.ours.rows for gain in gains)
    if rows < 400:
        found.append(
            f"The test split has {rows:,} rows, and so its figures are known to some "
            f"{100 * 1.96 * math.sqrt(0.25 / rows):.0f} points at best."
        )
    if any(gain.sign == 0 for gain in gains):
        found.append("Where an interval holds 0, more test rows or more time would be needed to tell.")
    return found
