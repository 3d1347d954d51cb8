"""A board as text: aligned for the terminal, and Markdown for `docs/leaderboard/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ssl_zoo.leaderboard.curves import Curves, curves, saved
from ssl_zoo.leaderboard.ranking import Row, Standings
from ssl_zoo.transfer.efficiency import Saved
from ssl_zoo.transfer.report import table

Stale = Mapping[str, str]  # row -> why its results are older than the code, the data or the recipe


def show(board: Standings, stale: Stale | None = None) -> str:
    """The standings, aligned. stale: row -> reason; a column of them where there is any."""
    stale = stale or {}
    header = ["row", "rank", "kind", "seeds", *board.measures]
    lines = [_line(board, row) + ([stale.get(row.name, "")] if stale else []) for row in board.rows]
    text = table([*header, "stale"] if stale else header, lines)
    return (
        f"{board.title}: mean ± half of the 95 % interval, ranked by {board.heading(board.primary)}\n{text}"
    )


def _line(board: Standings, row: Row) -> list[str]:
    scores = [cell.text() if (cell := row.headline(name)) else "-" for name in board.measures]
    seeds = str(len(row.records)) if row.records else "not run"
    return [row.title, str(board.ranks.get(row.name, "")), row.family, seeds, *scores]


def markdown(board: Standings, pictures: Mapping[str, str], stale: Stale | None = None) -> str:
    """The board as a Markdown page.

    Args:
        pictures: name of a chart ("primary", or `Curves.name`) -> file beside the page, if any.
        stale: row -> reason.
    """
    stale = stale or {}
    header = ["row", "rank", "kind", "seeds", *(board.heading(name) for name in board.measures)]
    parts = [
        f"# {board.title}",
        board.about,
        f"Mean ± half of the 95 % interval over seeds (Student's t), on test data that chose nothing. "
        f"Ranked by {board.heading(board.primary)}; references and floors stand between without a rank. "
        f"Read from `benchmarks/leaderboard/{board.name}/results.jsonl` by `ssl-zoo leaderboard docs`. "
        f"Hardware: {board.hardware}.",
        _grid(header, [_line(board, row) for row in board.rows]),
        *[f"Stale: {row.title}: {stale[row.name]}." for row in board.rows if row.name in stale],
    ]
    if "primary" in pictures:
        parts.append(_image(f"{board.heading(board.primary)} by row", pictures["primary"]))
    for one in curves(board):
        parts += _curves(board, one, pictures)
    if board.references:
        rows = [
            [r.name, "; ".join(f"{k}: {v:g}" for k, v in r.scores.items()), r.protocol, r.source]
            for r in board.references
        ]
        parts += [
            "## What others published",
            _grid(["result", "score", "how the protocol differs", "source"], rows, "---"),
        ]
    parts += ["## Rows", *[_about(row) for row in board.rows]]
    return "\n\n".join(parts) + "\n"


NAMES = {"labels": "by labels", "layers": "by depth", "cost": "by the cost of stage 2"}


def _curves(board: Standings, one: Curves, pictures: Mapping[str, str]) -> list[str]:
    columns = list(dict.fromkeys(p.words for _, points in one.lines for p in sorted(points)))
    if one.kind == "layers":  # trunks differ in depth: one cell for all blocks
        rows = [[row.title, ", ".join(p.text for p in points)] for row, points in one.lines]
        grid = _grid(["row", f"{one.y} after each block"], rows)
    else:
        rows = [
            [row.title, *({p.words: p.text for p in points}.get(c, "-") for c in columns)]
            for row, points in one.lines
        ]
        grid = _grid([f"{one.y}", *columns], rows)
    parts = [f"## {one.title}, {NAMES[one.kind]}", _image(f"{one.y} by {one.x}", pictures[one.name]), grid]
    if one.kind == "labels" and (lines := saved_lines(board, one.measure)):
        parts += [f"{saved_words(board, one.measure)}:", _grid(lines[0], lines[1:])]
    return parts


def saved_words(board: Standings, measure: str) -> str:
    """What the table of labels saved holds against each other."""
    longer = [
        board.label(name) for name, words in board.measures.items() if words.get("scratch_of") == measure
    ]
    which = f"taking “{', '.join(longer)}” where it was measured" if longer else "in as many steps"
    return (
        f"Labels per class that training from scratch needs for the same accuracy, {which} (read between its "
        "points as linear in log labels), and how many times as many"
    )


def saved_lines(board: Standings, measure: str) -> list[list[str]]:
    """Labels that pretraining saves, one line a row under a header; empty where nothing is compared."""
    found = saved(board, measure)
    budgets = sorted({one.labels for _, points in found for one in points})
    lines = [
        [row.title, *({one.labels: _needed(one) for one in points}.get(n, "-") for n in budgets)]
        for row, points in found
    ]
    header = ["pretrained, labels per class", *(f"{n:g}" for n in budgets)]
    return [header, *lines] if lines else []


def _needed(one: Saved) -> str:
    """ "100 (4.0x)", or what is known where scratch was not measured that far."""
    return one.outside if one.needed is None else f"{one.needed:.3g} ({one.factor:.1f}x)"


def _about(row: Row) -> str:
    words = " ".join(f"{key}={json.dumps(value)}" for key, value in row.recipe.pretrain.items())
    lines = [
        f"### {_plain(row.title)}",
        f"- Paper: {row.recipe.paper}",
        f"- Cost: {row.recipe.cost}",
        f"- Expected: {row.recipe.expected}",
    ]
    lines += [f"- Command: `{row.recipe.command}`", *([f"- Words: `{words}`"] if words else [])]
    return "\n".join([lines[0], "", *lines[1:]])


def _image(alt: str, file: str) -> str:
    return f"![{alt}]({file})"


def _plain(text: object) -> str:
    """Text that Markdown shows as it is, inside a cell too."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]], rest: str = "---:") -> str:
    """rest: how the columns after the first are aligned."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_plain, cells)) + " |"

    return "\n".join([line(header), line(["---", *[rest] * (len(header) - 1)]), *map(line, rows)])
