"""The charts of features and of views of a sample, as Vega-Lite specifications of plain data."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_zoo.pages.feature_views import FeatureView, Layers
from ssl_zoo.pages.run_charts import COLOURS, WIDE, Chart

LEGEND = 20  # classes that a legend shows at most


def embedding(view: FeatureView) -> Chart:
    """A map of the samples in the plane, by their class.

    The parameter `layout` names the map that is shown, the first of `view.maps` to begin with. A class is
    picked in the legend; where there are too many for one, by a click on a point.
    """
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
        many = len(view.classes) > LEGEND
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
    """The accuracy in percent of each layer's probe with its interval, and a dashed line at that of always
    naming the commonest class."""
    values = [
        {"layer": s.layer, "accuracy": 100 * s.accuracy, "low": 100 * s.low, "high": 100 * s.high}
        for s in layers.scores
    ]
    tooltip = [{"field": name, "format": ".1f"} for name in ("accuracy", "low", "high")]
    x = {
        "field": "layer",
        "type": "ordinal",
        "title": "block of the backbone, from its input (0: the mean of the embeddings)",
        "axis": {"labelAngle": 0},
    }
    y = {"type": "quantitative", "title": "accuracy (%)"}
    return {
        **WIDE,
        "description": "Accuracy of a linear probe of each depth.",
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


def similarity(cosines: Sequence[Sequence[float]]) -> Chart:
    """A heat map of the cosine similarity of each first view (rows) with each second view (columns), with the
    numbers in it.

    cosines: (B, B), B samples.
    """
    values = [
        {"first": i + 1, "second": j + 1, "cosine": round(value, 4)}
        for i, row in enumerate(cosines)
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
