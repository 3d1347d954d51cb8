"""Charts of a leaderboard as Vega-Lite: the primary measure by row, and curves over labels, depth and cost.

Rows are told apart by colour, dash and shape together. Each colour has a contrast of 3 or more with the light
ground and with the dark one; floors are grey and dashed.
"""

from __future__ import annotations

from typing import Any

from ssl_zoo.leaderboard.curves import Curves, Point, curves
from ssl_zoo.leaderboard.ranking import Row, Standings
from ssl_zoo.transfer.report import metric

Spec = dict[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c2649a", "#a87900", "#7e6bc4")
GREY = "#7d858e"
DASHES = ([1, 0], [8, 2], [10, 2, 2, 2], [6, 2, 1, 2, 1, 2])
SHAPES = ("circle", "triangle-up", "diamond", "triangle-down", "cross", "square")
FLOOR_DASHES = ([3, 3], [1, 3], [5, 5], [2, 6])
FAMILY_SHAPES = {"pretrained": "circle", "reference": "diamond", "floor": "square"}


def charts(board: Standings) -> dict[str, Spec]:
    """ "primary" and `Curves.name` -> specification; empty where nothing has run."""
    if not any(row.headline(board.primary) for row in board.rows):
        return {}
    return {"primary": standing(board)} | {one.name: lines(board, one) for one in curves(board)}


def looks(rows: list[Row]) -> list[tuple[str, list[int], str]]:
    """(colour, dash, shape) of each row: the same one in every chart of its board."""
    found, others, floors = [], 0, 0
    for row in rows:
        if row.family == "floor":
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
    """Dot and 95 % interval of the primary measure, best at the top; the names stand above the dots."""
    rows = [(row, cell) for row in board.rows if (cell := row.headline(board.primary))]
    shown = metric(rows[0][1].metric)
    values = []
    for row, cell in rows:
        low, high = cell.interval or (cell.mean, cell.mean)
        y, low, high = (shown.factor * value for value in (cell.mean, low, high))
        place = f"{board.ranks[row.name]}. " if row.name in board.ranks else ""
        values.append(
            {"row": place + row.title, "kind": row.family, "mean": y, "low": low, "high": high}
            | {"text": cell.text(), "seeds": len(cell.seeds)}
        )
    y = {"field": "row", "type": "nominal", "sort": None, "axis": None}
    title = f"{board.heading(board.primary)} ({shown.title})"
    x = {"type": "quantitative", "title": title, "axis": {"tickCount": 8}}
    kinds = list(FAMILY_SHAPES)
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": kinds, "range": [COLOURS[0], COLOURS[1], GREY]},
        "legend": {"title": None, "columns": 3},
    }
    shape = {"field": "kind", "scale": {"domain": kinds, "range": list(FAMILY_SHAPES.values())}}
    tooltip = [
        {"field": "row", "title": "row"},
        {"field": "text", "title": shown.title},
        {"field": "seeds", "title": "seeds"},
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": f"{board.heading(board.primary)} of every row, with 95 % intervals",
        "width": "container",
        "height": 36 * len(rows),
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
                "encoding": {"x": {"value": 2}, "text": {"field": "row"}},
            },
        ],
    }


def lines(board: Standings, one: Curves) -> Spec:
    """One line a row with a band for its 95 % interval; a click on a name of the legend shows it alone."""
    own = {row.name for row in board.rows}
    rows = [*board.rows, *(row for row, _ in one.lines if row.name not in own)]
    look = dict(zip([row.name for row in rows], looks(rows), strict=True))
    titles = [row.title for row, _ in one.lines]
    values = [_value(row, point) for row, points in one.lines for point in points]

    def channel(part: int) -> Spec:
        scale = {"domain": titles, "range": [look[row.name][part] for row, _ in one.lines]}
        legend = {
            "title": None,
            "columns": {"expr": "width > 520 ? 2 : 1"},
            "symbolSize": 120,
            "symbolOpacity": 1,
        }
        return {"field": "row", "type": "nominal", "scale": scale, "legend": legend}

    x: Spec = {"field": "x", "type": "quantitative", "title": one.x}
    if one.kind == "layers":
        x |= {"scale": {"domain": [0, 1]}, "axis": {"tickCount": 5}}
    else:
        x |= {"scale": {"type": "log", "nice": False, "padding": 12}, "axis": _log_axis(one)}
    y = {"field": "y", "type": "quantitative", "title": one.y, "scale": {"zero": False}}
    faded = {"condition": {"param": "picked", "value": 1}, "value": 0.08}
    band = {"condition": {"param": "picked", "value": 0.16}, "value": 0.02}
    tooltip = [
        {"field": "row", "title": "row"},
        {"field": "words", "title": "at"},
        {"field": "text", "title": one.y},
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": f"{one.title}: {one.y} over {one.x}, one line a row",
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
                    {"name": "picked", "select": {"type": "point", "fields": ["row"]}, "bind": "legend"}
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


def _value(row: Row, point: Point) -> Spec:
    return {"row": row.title, **point._asdict()}


def _log_axis(one: Curves) -> Spec:
    """Ticks where points are; "all" stands at its real number."""
    if one.kind == "cost":
        return {"format": "~s", "tickCount": 5}
    ticks = sorted({point.x for _, points in one.lines for point in points})
    axis: Spec = {"values": ticks, "labelOverlap": True}
    if one.everything is not None:
        label = (
            f"datum.value === {one.everything!r} ? 'all ({one.everything:,.0f})' : format(datum.value, ',~g')"
        )
        axis["labelExpr"] = label
    return axis
