"""The site of the leaderboard: index.html, BOARD.html and charts.js in one folder, read from disk or served.

Pages load nothing but charts.js beside them, which their Content-Security-Policy holds the browser to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup, escape

from ssl_zoo.leaderboard.cells import Cell
from ssl_zoo.leaderboard.curves import KINDS, curves
from ssl_zoo.leaderboard.ranking import Row, Standings
from ssl_zoo.leaderboard.table import (
    COST,
    MEANING,
    OVER,
    Stale,
    chosen_words,
    cost,
    saved_lines,
    saved_words,
    standing,
    worth_words,
)
from ssl_zoo.leaderboard.worth import WORDS, gains, rows_of
from ssl_zoo.pages.board_charts import charts
from ssl_zoo.pages.page import charting_script, render
from ssl_zoo.transfer.report import metric

SCRIPT = "charts.js"
BAR = 96  # units of the picture of an interval in a cell, from the lowest end of its column to the highest


class Bar(NamedTuple):
    """Where a cell's mean and interval stand, 0 to BAR."""

    low: float
    mean: float
    high: float


class Shown(NamedTuple):
    """A cell of the page: a number to sort by, its text and its bar; number None where there is no result."""

    number: float | None
    text: str
    bar: Bar | None


class Column(NamedTuple):
    """A measure: its title, the point and unit it shows, whether less is better, and a cell for each row."""

    name: str
    title: str
    unit: str
    lower: bool
    cells: list[Shown]


def write_site(
    boards: Sequence[Standings], folder: str | Path, stale: Mapping[str, Stale] | None = None
) -> list[Path]:
    """Write the site; the paths written. stale: board -> row -> why its results are out of date."""
    folder, stale = Path(folder), stale or {}
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{board.name}.html": board_page(board, stale.get(board.name)) for board in boards}
    pages["index.html"] = index_page(boards, stale)
    pages[SCRIPT] = charting_script()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def index_page(boards: Sequence[Standings], stale: Mapping[str, Stale]) -> str:
    """All boards with their standings, those that ran first."""
    ran = sorted(boards, key=lambda board: board.leader is None)
    return render(
        "boards.html",
        title="Leaderboards of ssl_zoo",
        boards=[(board, stale.get(board.name) or {}, *standing(board)) for board in ran],
        meaning=f"{MEANING}; {OVER}",
        board_style=_template("board.css"),
    )


def board_page(board: Standings, stale: Stale | None = None) -> str:
    """One board: the table, what others published, charts, and every row with its command and settings."""
    drawn = charts(board)
    shown = [
        {
            "id": one.name,
            "title": f"{one.title}, {KINDS[one.kind]}",
            "unit": one.y,
            "columns": list(dict.fromkeys(p.words for _, points in one.lines for p in points)),
            "lines": [(row.title, {p.words: p.text for p in points}) for row, points in one.lines],
            "saved": saved_lines(board, one.measure) if one.kind == "labels" else [],
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
        stale=dict(stale or {}),
        columns=[column(board, name) for name in shown_measures(board)],
        curves=shown,
        worth=[found for kind in WORDS if (found := worth(board, kind))],
        cost_words=COST,
        meaning=MEANING,
        details={row.name: details(row) for row in board.rows},
        families=sorted({row.family for row in board.rows}),
        backbones=sorted({row.backbone for row in board.rows if row.backbone}),
        bar=BAR,
        linked=linked,
        board_style=_template("board.css"),
    )


def shown_measures(board: Standings) -> list[str]:
    """The columns of the standings: the primary measure, then the others of which every row has its own."""
    rest = [name for name, words in board.measures.items() if "scratch_of" not in words]
    return sorted(rest, key=lambda name: name != board.primary)


def worth(board: Standings, kind: str) -> dict[str, Any]:
    """What pretraining gains over a kind of floor; empty where nothing is compared."""
    if not (found := gains(board, kind)):
        return {}
    rows = rows_of(board, found)
    return {
        "floor": WORDS[kind],
        "words": worth_words(kind),
        "titles": [row.title for row in rows],
        "lines": [(one.title, [one.gains.get(row.name) for row in rows]) for one in found],
    }


def column(board: Standings, measure: str) -> Column:
    """The headline cells of a measure, their bars on one scale."""
    cells = [row.headline(measure) for row in board.rows]
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


def details(row: Row) -> dict[str, Any]:
    """What a row's details show: its words, resolved configuration, and what each seed chose and took."""
    first = next(iter(row.records.values()), {})
    seeds = []
    for seed, record in row.records.items():
        chosen = {
            measure: [result["chosen"] for result in said["results"] if result.get("chosen")]
            for measure, said in record["measures"].items()
        }
        seeds.append((seed, record, _yaml({name: found for name, found in chosen.items() if found})))
    return {
        "words": _yaml(dict(row.recipe.pretrain)) if row.recipe.pretrain else "",
        "config": _yaml(first["config"]) if first.get("config") else "",
        "pretraining": first.get("pretraining") or {},
        "seeds": seeds,
    }


def linked(text: str) -> Markup:
    """Text with its web addresses and arXiv numbers as links, all else escaped."""
    found = []
    for i, part in enumerate(re.split(r"(https?://[^\s<>\"]*[^\s<>\".,;)]|arXiv:\d{4}\.\d{4,5})", text)):
        address = part.replace("arXiv:", "https://arxiv.org/abs/")
        found.append(Markup('<a href="{}">{}</a>').format(address, part) if i % 2 else escape(part))
    return Markup("").join(found)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).rstrip()


def _template(name: str) -> Markup:
    return Markup((files("ssl_zoo.pages") / "templates" / name).read_text(encoding="utf-8"))
