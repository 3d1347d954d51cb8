"""The picture of a ladder as one Vega-Lite specification: rungs by size, the fitted curve and its band."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssl_zoo.scaling import Fit

POINTS = 60  # of the curve
BEYOND = 2.0  # the curve goes on to twice the largest compute, and no further: it is a fit, not a forecast


def curve(fit: Fit, compute: np.ndarray) -> list[dict[str, float]]:
    """Points of the curve and its 95 % band, over the computes (n,) of the runs that were fitted."""
    at = np.geomspace(compute.min(), BEYOND * compute.max(), POINTS)
    return [
        {"flops": float(c), "loss": float(m), "low": float(a), "high": float(b)}
        for c, m, a, b in zip(at, *fit.curve(at), strict=True)
    ]


def chart(title: str, found: dict[str, Any]) -> dict[str, Any]:
    """The specification, without width: a page fills what it has."""
    sizes = list(dict.fromkeys(rung["size"] for rung in found["rungs"]))
    unit = found["rungs"][0]["unit"]
    x = {"field": "flops", "type": "quantitative", "scale": {"type": "log", "nice": False}}
    x |= {"title": "training compute (floating-point operations)", "axis": {"format": ".0e", "tickCount": 6}}
    y = {"field": "loss", "type": "quantitative", "scale": {"type": "log", "zero": False, "nice": False}}
    y |= {"title": "loss on the validation split", "axis": {"format": ".3~g", "tickCount": 8}}
    colour = {"field": "size", "type": "nominal", "sort": sizes, "title": "size"}
    colour |= {"scale": {"scheme": "viridis" if len(sizes) > 8 else "tableau10"}}
    tooltip = [
        {"field": "name", "title": "rung"},
        {"field": "parameters", "format": ",", "type": "quantitative"},
        {"field": "steps", "format": ",", "type": "quantitative"},
        {"field": "units", "format": ",", "title": unit, "type": "quantitative"},
        {"field": "flops", "format": ".3e", "title": "FLOPs", "type": "quantitative"},
        {"field": "loss", "format": ".4f", "type": "quantitative"},
        {"field": "frontier", "title": "on the frontier"},
    ]
    shown = ("name", "size", "parameters", "steps", "units", "flops", "loss", "frontier")
    rungs = {"values": [{key: rung[key] for key in shown} for rung in found["rungs"]]}
    point: dict[str, Any] = {
        "data": rungs,
        "mark": {"type": "point", "filled": True, "size": 80},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "tooltip": tooltip,
            "opacity": {"condition": {"test": "datum.frontier", "value": 1}, "value": 0.45},
        },
    }
    lines = {
        "data": rungs,
        "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.5},
        "encoding": {"x": x, "y": y | {"aggregate": "mean"}, "color": colour},
    }
    law = found["fits"][0]
    layers = [lines, point]
    if "curve" in law:
        values = {"values": law["curve"]}
        seen = [
            {"field": name, "format": form, "title": shown, "type": "quantitative"}
            for name, form, shown in (
                ("flops", ".3e", "FLOPs"),
                ("loss", ".4f", "fitted loss"),
                ("low", ".4f", "95 % band from"),
                ("high", ".4f", "to"),
            )
        ]
        band = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "tooltip": seen}
        layers = [
            {"data": values, "mark": {"type": "area", "color": "#888888", "opacity": 0.25}, "encoding": band},
            {
                "data": values,
                "mark": {"type": "line", "color": "#888888", "strokeDash": [6, 3]},
                "encoding": {"x": x, "y": y, "tooltip": seen},
            },
            *layers,
        ]
    return {
        "title": {"text": title, "subtitle": subtitle(law)},
        "width": "container",
        "height": 420,
        "layer": layers,
    }


def subtitle(law: dict[str, Any]) -> str:
    """The fit in one line."""
    if "refused" in law:
        return "no curve was fitted"
    alpha = law["parameters"]["alpha"]
    return (
        f"{law['law']} on the {law['runs']} runs of the frontier: alpha {alpha['value']:.3g} "
        f"[{alpha['low']:.3g}, {alpha['high']:.3g}]; dashes and band: fit and 95 % interval"
    )
