"""The curves of a run, as Vega-Lite specifications, made of plain data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Chart = dict[str, Any]
Metrics = Mapping[str, tuple[list[int], list[float]]]
Group = dict[str, tuple[list[int], list[float]]]
SOURCES = {"train": "training batch", "val": "held out"}
# Titles, with their units, of logged names that say too little.
TITLES = {
    "nats_per_token": "loss (nats per token)",
    "nats_per_masked_token": "loss (nats per hidden token)",
    "bits_per_byte": "bits per byte",
    "pair_found": "pairs found (share)",
    "accuracy": "accuracy of the pretext task (share)",
    "lr": "learning rate of the first parameter group",
    "data_wait_percent": "waiting for data (% of the time)",
    "monitor/knn": "accuracy of 20 nearest neighbours (share)",
    "monitor/feature_std": "feature std (1 = spread evenly, 0 = collapsed)",
    "monitor/effective_rank": "effective rank (dimensions)",
}
# The loss of a network that tells nothing apart has no curve of its own, but a line in the loss's.
CHANCE = "chance"
COLOURS = ("#4c78a8", "#d9730d")  # on white and on black at least 3 : 1
WIDE: Chart = {"width": "container", "height": 220}


def title(name: str, unit: str) -> str:
    """The title of a logged name, which comes without its source.

    unit: of the objective's loss; "" where it is not known.
    """
    if name == "loss":
        return f"loss ({unit})" if unit else "loss"
    if name.endswith("_per_second"):
        return name.replace("_", " ")
    return TITLES.get(name, name.removeprefix("monitor/").replace("_", " "))


def curves(metrics: Metrics, unit: str) -> dict[str, Chart]:
    """Title -> line chart over optimizer steps; training and held-out values of one name share a chart.

    A name whose values are those of the loss (nats_per_token) replaces it: it has the better unit. What was
    logged at one step only is no curve (see `once`).
    """
    found = {name: group for name, group in grouped(metrics).items() if len(steps_of(group)) > 1}
    charts = {}
    for name, group in found.items():
        is_loss = "train/loss" in metrics and group.get(SOURCES["train"]) == metrics["train/loss"]
        chance = metrics[CHANCE][1][-1] if is_loss and CHANCE in metrics else None
        charts[title(name, unit)] = curve(group, title(name, unit), chance)
    return charts


def once(metrics: Metrics, unit: str) -> list[tuple[str, int, float]]:
    """Title, step and value of what was logged at one step only."""
    return [
        (title(name, unit) + (f", {source}" if source else ""), steps[0], values[0])
        for name, group in grouped(metrics).items()
        if len(steps_of(group)) == 1
        for source, (steps, values) in group.items()
    ]


def steps_of(group: Group) -> set[int]:
    """The steps at which anything of a group was logged."""
    return {step for steps, _ in group.values() for step in steps}


def grouped(metrics: Metrics) -> dict[str, Group]:
    """Name without its source -> source -> steps and values. The loss comes first, the machinery last."""
    groups: dict[str, Group] = {}
    for name, values in metrics.items():
        if name == CHANCE:
            continue
        source, _, rest = name.partition("/")
        key, label = (rest, SOURCES[source]) if source in SOURCES else (name, "")
        groups.setdefault(key, {})[label] = values
    loss = groups.get("loss")
    if loss is not None and any(key != "loss" and group == loss for key, group in groups.items()):
        del groups["loss"]
    first = ["loss", "nats_per_token", "nats_per_masked_token", "bits_per_byte"]
    rank = lambda name: (  # noqa: E731
        first.index(name) if name in first else len(first) + 1 if machinery(name) else len(first)
    )
    return {name: groups[name] for name in sorted(groups, key=lambda name: (rank(name), name))}


def machinery(name: str) -> bool:
    """Whether a name is about how training ran, and not about what was learnt."""
    return name in ("lr", "data_wait_percent") or name.endswith("_per_second")


def curve(group: Group, name: str, chance: float | None = None) -> Chart:
    """The chart of one name, with a line for each source. Sources differ in colour, dash and mark.

    chance: where a level line says that nothing is told apart.
    """
    values = [
        {"step": step, "value": value, "rows": source}
        for source, (steps, found) in group.items()
        for step, value in zip(steps, found, strict=True)
        if abs(value) < float("inf")  # JSON has no infinity, nor NaN, which is not below it either
    ]
    encoding: Chart = {
        "x": {"field": "step", "type": "quantitative", "title": "optimizer step", "axis": {"tickCount": 5}},
        "y": {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}},
        "tooltip": [{"field": "step"}, {"field": "value", "format": ".5~g"}],
    }
    if len(group) > 1:
        domain = list(group)
        scale = {"domain": domain, "range": list(COLOURS[: len(domain)])}
        encoding["color"] = {"field": "rows", "type": "nominal", "scale": scale, "title": None}
        encoding["strokeDash"] = {"field": "rows", "type": "nominal", "scale": {"domain": domain}}
        encoding["shape"] = {"field": "rows", "type": "nominal", "scale": {"domain": domain}}
        encoding["tooltip"].append({"field": "rows"})
    layers = [
        {"mark": {"type": "line", "color": COLOURS[0]}, "encoding": {}},
        {
            "mark": {"type": "point", "filled": True, "size": 28, "opacity": 1, "color": COLOURS[0]},
            "encoding": {},
        },
    ]
    if len(group) > 1:
        layers[0]["encoding"]["strokeDash"] = encoding.pop("strokeDash")
        layers[1]["encoding"]["shape"] = encoding.pop("shape")
    about = f"Line chart: {name} over optimizer steps."
    if chance is not None:
        layers += level(chance, "nothing told apart")
        about += f" A network that tells nothing apart has {chance:.4g}."
    return {**WIDE, "description": about, "data": {"values": values}, "layer": layers, "encoding": encoding}


def level(value: float, label: str) -> list[Chart]:
    """Layers of a level line across a chart, with its label."""
    left, grey = {"value": 0}, {"value": "#808080"}
    rule = {"x": left, "x2": {"value": "width"}, "color": grey, "tooltip": {"value": f"{label}: {value:.4g}"}}
    text = {"x": {"value": 4}, "color": grey, "text": {"value": label}, "tooltip": {"value": None}}
    data = {"values": [{"value": value}]}
    return [
        {"data": data, "mark": {"type": "rule", "strokeDash": [2, 3]}, "encoding": rule},
        {"data": data, "mark": {"type": "text", "align": "left", "baseline": "bottom"}, "encoding": text},
    ]
