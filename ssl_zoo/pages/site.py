"""The site of the leaderboard: index.html, BOARD.html and charts.js in one folder, read from disk or served.

Pages load nothing but charts.js beside them, which their Content-Security-Policy holds the browser to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup, escape

from ssl_zoo.leaderboard.curves import KINDS, curves
from ssl_zoo.leaderboard.standings import Cell, Line, Standings
from ssl_zoo.leaderboard.table import (
    COST,
    MEANING,
    OVER,
    chosen_words,
    cost,
    lengthwise,
    saved_labels,
    saved_words,
    standing,
    worth_words,
)
from ssl_zoo.leaderboard.worth import WORDS, gains, lines_of
from ssl_zoo.pages.board_charts import charts
from ssl_zoo.pages.page import asset, charting_script, render
from ssl_zoo.transfer.report import metric

SCRIPT = "charts.js"
BAR = 96  # width of the picture of an interval in a cell, from the lowest end in its column to the highest


class Bar(NamedTuple):
    """Where the mean of a cell and the ends of its interval stand, from 0 to BAR."""

    low: float
    mean: float
    high: float


class Shown(NamedTuple):
    """A cell of the page: the number to sort by, the text and the bar; number and bar are None where there is
    no result."""

    number: float | None
    text: str
    bar: Bar | None


class Column(NamedTuple):
    """A column of the standings: one measure.

    Attributes:
        name, title: of the measure.
        unit: the point of it that the column shows, and the title of its metric.
        lower: whether less is better.
        cells: one for each line, in the order of the board.
    """

    name: str
    title: str
    unit: str
    lower: bool
    cells: list[Shown]


def write_site(boards: Sequence[Standings], folder: str | Path) -> list[Path]:
    """Write the site; gives the paths of its files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{board.name}.html": board_page(board) for board in boards}
    pages["index.html"] = index_page(boards)
    pages[SCRIPT] = charting_script()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def index_page(boards: Sequence[Standings]) -> str:
    """The page of all boards with their standings; boards that have run come first."""
    ran = sorted(boards, key=lambda board: board.leader is None)
    return render(
        "boards.html",
        title="Leaderboards of ssl_zoo",
        boards=[(board, *standing(board, board.lines)) for board in ran],
        meaning=f"{MEANING}; {OVER}",
        board_style=Markup(asset("board.css")),
    )


def board_page(board: Standings) -> str:
    """The page of one board: the table, what others published, charts, and every line with its command and
    settings."""
    drawn = charts(board)
    shown = [
        {
            "id": one.name,
            "title": f"{one.title}, {KINDS[one.kind]}",
            "unit": one.y,
            "choice": one.choice,
            "columns": list(dict.fromkeys(p.words for _, points in one.drawn for p in points)),
            "drawn": [(line.title, {p.words: p.text for p in points}) for line, points in one.drawn],
            "saved": saved_labels(board, one.measure) if one.kind == "labels" else [],
            "saved_words": saved_words(board, one.measure) if one.kind == "labels" else "",
            "chosen": chosen_words(board, one.measure) if one.kind == "labels" else "",
            "cost": cost(board, one.measure) if one.kind == "cost" else None,
        }
        for one in curves(board)
    ]
    return render(
        "board.html",
        {f"chart-{name}": spec for name, spec in drawn.items()},
        SCRIPT,
        ["board.js"],
        title=board.title,
        board=board,
        columns=[column(board, name) for name in shown_measures(board)],
        curves=shown,
        worth=[found for kind in WORDS if (found := worth(board, kind))],
        cost_words=COST,
        meaning=MEANING,
        details={line.name: details(line) for line in board.lines},
        roles=sorted({line.role for line in board.lines}),
        backbones=sorted({line.backbone for line in board.lines if line.backbone}),
        bar=BAR,
        linked=linked,
        board_style=Markup(asset("board.css")),
    )


def shown_measures(board: Standings) -> list[str]:
    """The measures with a column in the standings: the primary one, then the others. Training from scratch
    for longer (`scratch_of`), which few lines have, gets none."""
    rest = [name for name, said in board.measures.items() if "scratch_of" not in said]
    return sorted(rest, key=lambda name: name != board.primary)


def worth(board: Standings, kind: str) -> dict[str, Any]:
    """What pretraining gains over a kind of floor; {} where nothing is compared."""
    if not (found := gains(board, kind)):
        return {}
    compared = lines_of(board, found)
    header, body = lengthwise(
        ["measure", *(line.title for line in compared)],
        [[one.title, *(one.gains.get(line.name) for line in compared)] for one in found],
    )
    return {"floor": WORDS[kind], "words": worth_words(kind), "header": header, "gains": body}


def column(board: Standings, measure: str) -> Column:
    """The column of a measure: its headline cells, with bars on one scale."""
    cells = [line.headline(measure) for line in board.lines]
    ends = [end for cell in cells if cell for end in (cell.interval or (cell.mean, cell.mean))]
    there = next((cell for cell in cells if cell), None)
    shown = metric(there.metric) if there else None
    return Column(
        measure,
        board.label(measure),
        ", ".join(filter(None, (board.point(measure), shown.title if shown else ""))),
        shown.lower if shown else False,
        [_shown(cell, min(ends), max(ends)) if cell else Shown(None, "–", None) for cell in cells],
    )


def _shown(cell: Cell, low: float, high: float) -> Shown:
    span = (high - low) or 1.0
    ends = cell.interval or (cell.mean, cell.mean)
    places = (round(BAR * (value - low) / span, 1) for value in (ends[0], cell.mean, ends[1]))
    return Shown(cell.mean, cell.text(), Bar(*places))


def details(line: Line) -> dict[str, Any]:
    """What the details of a line show: its overrides, its resolved configuration, its pretraining, and what
    each seed chose and took."""
    first = next(iter(line.records.values()), {})
    seeds = []
    for seed, record in line.records.items():
        chosen = {
            measure: [result["chosen"] for result in said["results"] if result.get("chosen")]
            for measure, said in record["measures"].items()
        }
        seeds.append((seed, record, _yaml({name: found for name, found in chosen.items() if found})))
    return {
        "overrides": _yaml(dict(line.recipe.pretrain)) if line.recipe.pretrain else "",
        "config": _yaml(first["config"]) if first.get("config") else "",
        "pretraining": first.get("pretraining") or {},
        "seeds": seeds,
    }


def linked(text: str) -> Markup:
    """A text as HTML: its web addresses and arXiv numbers are links, and all else is escaped."""
    found = []
    for i, part in enumerate(re.split(r"(https?://[^\s<>\"]*[^\s<>\".,;)]|arXiv:\d{4}\.\d{4,5})", text)):
        address = part.replace("arXiv:", "https://arxiv.org/abs/")
        found.append(Markup('<a href="{}">{}</a>').format(address, part) if i % 2 else escape(part))
    return Markup("").join(found)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).rstrip()
