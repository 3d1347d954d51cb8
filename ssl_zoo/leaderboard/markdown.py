"""A board as a Markdown page, for `docs/leaderboard/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ssl_zoo.leaderboard.curves import KINDS, Curves, curves
from ssl_zoo.leaderboard.ranking import Row, Standings
from ssl_zoo.leaderboard.table import (
    COST,
    MEANING,
    OVER,
    Stale,
    chosen_words,
    cost,
    measured,
    saved_lines,
    saved_words,
    standing,
    worth_words,
)
from ssl_zoo.leaderboard.worth import WORDS, Gain, gains, rows_of


def markdown(board: Standings, pictures: Mapping[str, str], stale: Stale | None = None) -> str:
    """The board as a Markdown page.

    Args:
        pictures: name of a chart ("primary", or `Curves.name`) -> file beside the page, if any.
        stale: row -> reason.
    """
    stale = stale or {}
    parts = [
        f"# {board.title}",
        board.about,
        f"{MEANING}, on test data that chose nothing; {OVER}. "
        f"Ranked by {board.heading(board.primary)}; references and floors stand between without a rank. "
        f"Read from `benchmarks/leaderboard/{board.name}/results.jsonl` by `ssl-zoo leaderboard docs`. "
        f"Hardware: {board.hardware}.",
        grid(*standing(board)),
        *[f"Stale: {row.title}: {stale[row.name]}." for row in board.rows if row.name in stale],
    ]
    if "primary" in pictures:
        parts.append(_image(f"{board.heading(board.primary)} by row", pictures["primary"]))
        parts += ["## All measures", grid(["measure", *(row.title for row in board.rows)], measured(board))]
    for kind in WORDS:
        parts += _worth(board, kind)
    for one in curves(board):
        parts += _curves(board, one, pictures)
    if board.references:
        rows = [
            [r.name, "; ".join(f"{k}: {v:g}" for k, v in r.scores.items()), r.protocol, r.source]
            for r in board.references
        ]
        parts += [
            "## What others published",
            grid(["result", "score", "how the protocol differs", "source"], rows, "---"),
        ]
    parts += ["## Rows", *[_about(row) for row in board.rows]]
    return "\n\n".join(parts) + "\n"


def _worth(board: Standings, kind: str) -> list[str]:
    """What pretraining gains over a kind of floor."""
    if not (found := gains(board, kind)):
        return []
    rows = rows_of(board, found)
    lines = [[one.title, *(_marked(one.gains.get(row.name)) for row in rows)] for one in found]
    return [
        f"## What pretraining gains over {WORDS[kind]}",
        f"{worth_words(kind)}. **Bold**: all of it is above 0. ▼: all of it is below 0.",
        grid(["measure", *(row.title for row in rows)], lines),
    ]


def _marked(gain: Gain | None) -> str:
    if gain is None:
        return "-"
    return {"better": f"**{gain.text}**", "worse": f"▼ {gain.text}"}.get(gain.verdict, gain.text)


def _curves(board: Standings, one: Curves, pictures: Mapping[str, str]) -> list[str]:
    if one.kind == "layers":  # trunks differ in depth: one cell for all blocks
        header = ["row", f"{one.y} after each block"]
        rows = [[row.title, ", ".join(p.text for p in points)] for row, points in one.lines]
    else:
        columns = list(dict.fromkeys(p.words for _, points in one.lines for p in points))
        header = [one.y, *columns]
        rows = [
            [row.title, *({p.words: p.text for p in points}.get(c, "-") for c in columns)]
            for row, points in one.lines
        ]
    parts = [
        f"## {one.title}, {KINDS[one.kind]}",
        _image(f"{one.y} by {one.x}", pictures[one.name]),
        grid(header, rows),
    ]
    if one.kind == "labels":
        parts.append(f"{chosen_words(board, one.measure)}.")
    if one.kind == "labels" and (lines := saved_lines(board, one.measure)):
        parts += [f"{saved_words(board, one.measure)}:", grid(lines[0], lines[1:])]
    if one.kind == "cost":
        parts += [f"{COST}:", grid(*cost(board, one.measure))]
    return parts


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


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], rest: str = "---:") -> str:
    """A table. rest: how the columns after the first are aligned."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_plain, cells)) + " |"

    return "\n".join([line(header), line(["---", *[rest] * (len(header) - 1)]), *map(line, rows)])
