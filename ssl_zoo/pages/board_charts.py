"""Charts of a leaderboard as Vega-Lite: the primary measure by line, and curves over labels, depth and cost.

Lines are told apart by colour, dash and shape together. Each colour has a contrast of 3 or more with the
light ground and with the dark one; floors are grey and dashed.
"""

from __future__ import annotations

from typing import Any

from ssl_zoo.leaderboard.curves import Curves, Point, curves, few
from ssl_zoo.leaderboard.standings import Line, Standings
from ssl_zoo.transfer.report import metric

Spec = dict[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c2649a", "#a87900", "#7e6bc4")
GREY = "#7d858e"
DASHES = ([1, 0], [8, 2], [10, 2, 2, 2], [6, 2, 1, 2, 1, 2])
SHAPES = ("circle", "triangle-up", "diamond", "triangle-down", "cross", "square")
FLOOR_DASHES = ([3, 3], [1, 3], [5, 5], [2, 6])
ROLE_SHAPES = {"pretrained": "circle", "reference": "diamond", "floor": "square"}


def charts(board: Standings) -> dict[str, Spec]:
    """The charts of a board, by "primary" and by `Curves.name`; {} where no line has results of the primary
    measure."""
    if not any(line.headline(board.primary) for line in board.lines):
        return {}
    return {"primary": standing(board)} | {one.name: drawn(board, one) for one in curves(board)}


def looks(board_lines: list[Line]) -> list[tuple[str, list[int], str]]:
    """(colour, dash, shape) of each line: the same one in every chart of its board."""
    found, others, floors = [], 0, 0
    for line in board_lines:
        if line.role == "floor":
            shape = SHAPES[-1 - floors % len(SHAPES)]
            found.append((GREY, list(FLOOR_DASHES[floors % len(FLOOR_DASHES)]), shape))
            floors += 1
        else:
            turn = others // len(COLOURS)
            dash = DASHES[others % len(DASHES)]
            found.append((COLOURS[others % len(COLOURS)], list(dash), SHAPES[(others + turn) % len(SHAPES)]))
            others += 1
    return found


def standing(board: Standings) -> Spec:
    """The primary measure of every line that has it, best at the top: a dot with its 95 % interval, and the
    name above. At least one line has run."""
    ran = [(line, cell) for line in board.lines if (cell := line.headline(board.primary))]
    shown = metric(ran[0][1].metric)
    values = []
    for line, cell in ran:
        low, high = cell.interval or (cell.mean, cell.mean)
        y, low, high = (shown.factor * value for value in (cell.mean, low, high))
        place = f"{board.ranks[line.name]}. " if line.name in board.ranks else ""
        values.append(
            {"line": place + line.title, "role": line.role, "mean": y, "low": low, "high": high}
            | {"text": cell.text(), "seeds": len(cell.seeds)}
        )
    y = {"field": "line", "type": "nominal", "sort": None, "axis": None}
    title = f"{board.heading(board.primary)} ({shown.title})"
    x = {"type": "quantitative", "title": title, "axis": {"tickCount": 8}}
    roles = list(ROLE_SHAPES)
    colour = {
        "field": "role",
        "type": "nominal",
        "scale": {"domain": roles, "range": [COLOURS[0], COLOURS[1], GREY]},
        "legend": {"title": None, "columns": 3},
    }
    shape = {"field": "role", "scale": {"domain": roles, "range": list(ROLE_SHAPES.values())}}
    tooltip = [
        {"field": "line", "title": "line"},
        {"field": "text", "title": shown.title},
        {"field": "seeds", "title": "seeds"},
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": f"{board.heading(board.primary)} of every line, with 95 % intervals",
        "width": "container",
        "height": 36 * len(ran),
        "data": {"values": values},
        "encoding": {"y": y, "tooltip": tooltip},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "x": {"field": "low", "scale": {"zero": False}, **x},
                    "x2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"x": {"field": "mean", **x}, "color": colour, "shape": shape},
            },
            {
                "mark": {"type": "text", "align": "left", "dy": -13, "fontSize": 12},
                "encoding": {"x": {"value": 2}, "text": {"field": "line"}},
            },
        ],
    }


def drawn(board: Standings, one: Curves) -> Spec:
    """A curve for each line, or for some of many, with a band for its 95 % interval. A click on a name of the
    legend shows that line alone."""
    often = few(board.ran)  # first, so that they look least alike
    pictured = one.pictured
    named = {line.name: line for line in (*often, *board.lines, *(line for line, _ in pictured))}
    look = dict(zip(named, looks(list(named.values())), strict=True))
    titles = [line.title for line, _ in pictured]
    values = [_value(line, point) for line, points in pictured for point in points]

    def channel(part: int) -> Spec:
        scale = {"domain": titles, "range": [look[line.name][part] for line, _ in pictured]}
        legend = {
            "title": None,
            "columns": {"expr": "width > 640 ? 2 : 1"},  # one beside a picture of docs/
            "symbolSize": 120,
            "symbolOpacity": 1,
        }
        return {"field": "line", "type": "nominal", "scale": scale, "legend": legend}

    x: Spec = {"field": "x", "type": "quantitative", "title": one.x}
    if one.kind == "layers":
        x |= {"scale": {"domain": [0, 1]}, "axis": {"tickCount": 5}}
    else:
        x |= {"scale": {"type": "log", "nice": False, "padding": 12}, "axis": _log_axis(one)}
    y = {"field": "y", "type": "quantitative", "title": one.y, "scale": {"zero": False}}
    faded = {"condition": {"param": "picked", "value": 1}, "value": 0.08}
    band = {"condition": {"param": "picked", "value": 0.16}, "value": 0.02}
    about = f"{one.title}: {one.y} over {one.x}, a curve for each line"
    tooltip = [
        {"field": "line", "title": "line"},
        {"field": "words", "title": "at"},
        {"field": "text", "title": one.y},
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": ". ".join(filter(None, (about, one.choice))),
        "width": "container",
        "height": 300,
        "data": {"values": values},
        "encoding": {"x": x, "color": channel(0)},
        "layer": [
            {
                "mark": "area",
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}, "opacity": band},
            },
            {
                "params": [
                    {"name": "picked", "select": {"type": "point", "fields": ["line"]}, "bind": "legend"}
                ],
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"y": y, "strokeDash": channel(1), "opacity": faded},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {"y": y, "shape": channel(2), "opacity": faded, "tooltip": tooltip},
            },
        ],
    }


def _value(line: Line, point: Point) -> Spec:
    return {"line": line.title, **point._asdict()}


def _log_axis(one: Curves) -> Spec:
    """A logarithmic axis of labels has ticks where points are, and "all (N)" at the number of all labels; one
    of costs has ticks at round numbers."""
    if one.kind == "cost":
        return {"format": "~s", "tickCount": 5}
    ticks = sorted({point.x for _, points in one.pictured for point in points})
    axis: Spec = {"values": ticks, "labelOverlap": True}
    if one.everything is not None:
        label = (
            f"datum.value === {one.everything!r} ? 'all ({one.everything:,.0f})' : format(datum.value, ',~g')"
        )
        axis["labelExpr"] = label
    return axis
