"""The charts of a run's page, as Vega-Lite specifications. Pure functions of plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_zoo.pages.feature_views import FeatureView, Layers
from ssl_zoo.pages.image_predictions import Pairs

Chart = dict[str, Any]
Metrics = Mapping[str, tuple[list[int], list[float]]]
SOURCES = {"train": "training batch", "val": "held out"}
# Where a name says too little: a title, and the unit.
TITLES = {
    "loss": "loss (nats; of a sum of objectives: weighted)",
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
SQUARED = "loss (mean squared error of normalised pixels)"
COLOURS = ("#4c78a8", "#d9730d")  # on white and on black at least 3 : 1
WIDE: Chart = {"width": "container", "height": 220}


def title(name: str, objective: str) -> str:
    """What the vertical axis says for a logged name without its source, for an objective by class name."""
    if name == "loss" and objective == "MAE":
        return SQUARED
    if name.endswith("_per_second"):
        return name.replace("_", " ")
    return TITLES.get(name, name.removeprefix("monitor/").replace("_", " "))


def curves(metrics: Metrics, objective: str) -> dict[str, Chart]:
    """Title -> line chart over optimizer steps; training and held-out values of one name share a chart.

    A name whose values are those of the loss (nats_per_token) replaces it: it has the better unit.
    """
    groups: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for name, values in metrics.items():
        source, _, rest = name.partition("/")
        key, label = (rest, SOURCES[source]) if source in SOURCES else (name, "")
        groups.setdefault(key, {})[label] = values
    loss = groups.get("loss")
    if loss is not None and any(key != "loss" and group == loss for key, group in groups.items()):
        del groups["loss"]
    order = ["loss", "nats_per_token", "nats_per_masked_token", "bits_per_byte"]
    names = sorted(groups, key=lambda key: (order.index(key) if key in order else len(order), key))
    return {title(name, objective): curve(groups[name], title(name, objective)) for name in names}


def curve(group: dict[str, tuple[list[int], list[float]]], name: str) -> Chart:
    """One chart: source -> steps and values. Sources differ in colour, dash and mark."""
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
        {"mark": {"type": "point", "filled": True, "size": 28, "color": COLOURS[0]}, "encoding": {}},
    ]
    if len(group) > 1:
        layers[0]["encoding"]["strokeDash"] = encoding.pop("strokeDash")
        layers[1]["encoding"]["shape"] = encoding.pop("shape")
    about = f"Line chart: {name} over optimizer steps."
    return {**WIDE, "description": about, "data": {"values": values}, "layer": layers, "encoding": encoding}


def embedding(view: FeatureView) -> Chart:
    """Points where the map that `layout` names puts them; a class can be picked in the legend."""
    names = list(view.maps)
    values = []
    for i, sample in enumerate(view.samples):
        places = {
            f"{name} {axis + 1}": round(float(at[i, axis]), 4)
            for name, at in view.maps.items()
            for axis in (0, 1)
        }
        shown = {"image": sample.image} if sample.image else {"text": sample.text}
        values.append({**places, **shown, "class": sample.label or "(no label)"})
    label = {"field": "class", "type": "nominal", "title": "class"}
    tooltip = [{"field": "class"}]
    tooltip.append({"field": "image"} if view.samples[0].image else {"field": "text"})
    encoding: Chart = {
        "x": {"field": "x", "type": "quantitative", "axis": None, "scale": {"zero": False}},
        "y": {"field": "y", "type": "quantitative", "axis": None, "scale": {"zero": False}},
        "tooltip": tooltip,
    }
    params: list[Chart] = [{"name": "layout", "value": names[0]}]
    if view.classes:
        many = len(view.classes) > 20
        scale = {"scheme": "tableau10" if len(view.classes) <= 10 else "tableau20"}
        present = sorted({value["class"] for value in values}, key=view.classes.index)
        legend = None if many else {"symbolOpacity": 1}
        encoding["color"] = {**label, "scale": {**scale, "domain": present}, "legend": legend}
        encoding["shape"] = {**label, "scale": {"domain": present}, "legend": legend}
        encoding["opacity"] = {"condition": {"param": "picked", "value": 0.85}, "value": 0.08}
        picked = {"type": "point", "fields": ["class"]}
        params.append({"name": "picked", "select": picked, **({} if many else {"bind": "legend"})})
    return {
        "width": "container",
        "height": 460,
        "description": f"Map of {len(values)} rows in the plane.",
        "params": params,
        "data": {"values": values},
        "transform": [
            {"calculate": "datum[layout + ' 1']", "as": "x"},
            {"calculate": "datum[layout + ' 2']", "as": "y"},
        ],
        "mark": {"type": "point", "filled": True, "size": 42, "color": COLOURS[0]},
        "encoding": encoding,
    }


def layer_probe(layers: Layers) -> Chart:
    """Accuracy of each layer's probe with its interval, and the line of the commonest class."""
    values = [
        {"layer": s.layer, "accuracy": 100 * s.accuracy, "low": 100 * s.low, "high": 100 * s.high}
        for s in layers.scores
    ]
    tooltip = [{"field": name, "format": ".1f"} for name in ("accuracy", "low", "high")]
    x = {
        "field": "layer",
        "type": "ordinal",
        "title": "block of the backbone, from its input",
        "axis": {"labelAngle": 0},
    }
    y = {"type": "quantitative", "title": "accuracy (%)"}
    return {
        **WIDE,
        "description": "Accuracy of a linear probe after each block.",
        "data": {"values": values},
        "encoding": {"x": x},
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [4, 4], "color": "#888888"},
                "encoding": {"x": None, "y": {"datum": 100 * layers.commonest, **y}},
            },
            {
                "mark": {"type": "rule", "color": COLOURS[0], "strokeWidth": 2},
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "color": COLOURS[0], "point": {"size": 60, "color": COLOURS[0]}},
                "encoding": {"y": {"field": "accuracy", **y}, "tooltip": tooltip},
            },
        ],
    }


def similarity(pairs: Pairs) -> Chart:
    """Cosine similarity of first views (rows) and second views (columns), with its numbers."""
    values = [
        {"first": i + 1, "second": j + 1, "cosine": round(value, 4)}
        for i, row in enumerate(pairs.similarity)
        for j, value in enumerate(row)
    ]
    axes: Chart = {
        "x": {
            "field": "second",
            "type": "ordinal",
            "title": "second view of sample",
            "axis": {"labelAngle": 0},
        },
        "y": {"field": "first", "type": "ordinal", "title": "first view of sample"},
    }
    cosine = {"field": "cosine", "type": "quantitative"}
    scale = {"scheme": "blues", "domain": [-1, 1]}
    text = {"condition": {"test": "datum.cosine > 0.3", "value": "white"}, "value": "black"}
    return {
        **WIDE,
        "height": 320,
        "description": "Heat map of cosine similarities.",
        "data": {"values": values},
        "encoding": axes,
        "layer": [
            {"mark": "rect", "encoding": {"color": {**cosine, "scale": scale, "title": "cosine similarity"}}},
            {
                "mark": {"type": "text", "fontSize": 10},
                "encoding": {"text": {**cosine, "format": ".2f"}, "color": text},
            },
        ],
    }
