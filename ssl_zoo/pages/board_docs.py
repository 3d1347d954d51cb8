"""What is written from results: `docs/leaderboard/` (a Markdown page and SVG charts for each board), the
README's table, and what a recipe's header expects. The same results give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ssl_zoo.leaderboard.board import Board
from ssl_zoo.leaderboard.curves import FEW, few
from ssl_zoo.leaderboard.standings import Line, Standings, standings
from ssl_zoo.leaderboard.table import grid, markdown, standing
from ssl_zoo.pages.board_charts import charts
from ssl_zoo.pages.page import picture
from ssl_zoo.transfer.report import metric

WIDTH = 640  # of a picture, in pixels


def documents(board: Standings) -> dict[str, str]:
    """File name -> text: BOARD.md and the SVG of every chart it shows."""
    drawn = charts(board)
    names = {name: f"{board.name}-{name}.svg" for name in drawn}
    found = {names[name]: picture({**spec, "width": WIDTH}) for name, spec in drawn.items()}
    return {f"{board.name}.md": markdown(board, names)} | found


def write_docs(boards: Sequence[Standings], folder: str | Path) -> list[Path]:
    """Write the documents of every board; gives the paths of the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for board in boards:
        for name, text in documents(board).items():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
    return written


BEGIN, END = "<!-- from results.jsonl: -->", "<!-- :from results.jsonl -->"


def lowered(words: str) -> str:
    """A title without the capital that opens it."""
    return words[:1].lower() + words[1:]


def summary(boards: Sequence[Standings]) -> str:
    """The tables of the README: lines by the primary measure, of each board with a pretrained line that has
    run."""
    parts = []
    for board in boards:
        if board.leader is not None:
            shown = few(board.ran)
            some = f": {len(shown)} of {len(board.ran)} lines, {FEW}." if len(shown) < len(board.ran) else ""
            link = f"[{board.title}](docs/leaderboard/{board.name}.md)"
            parts += [link + some, grid(*standing(board, shown))]
    return "\n\n".join(parts)


def with_summary(readme: str, boards: Sequence[Standings]) -> str:
    """The README with the tables between its marks made anew.

    Raises:
        ValueError: a README without the marks.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no table to write: put {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n{summary(boards)}\n{END}{after}"


def expected(board: Standings, line: Line) -> str:
    """What the header of a recipe says that its line scores."""
    cell = line.headline(board.primary)
    if cell is None:
        return "not run yet"
    unit = " %" if metric(cell.metric).factor == 100 else ""
    seeds = "one seed" if len(cell.seeds) == 1 else f"{len(cell.seeds)} seeds"
    return f"{lowered(board.heading(board.primary))} {cell.text()}{unit} ({seeds})"


def with_expected(recipe: str, text: str) -> str:
    """The text of a recipe with its Expected line made anew; unchanged where the line has not run."""
    if text == "not run yet":
        return recipe
    return re.sub(r"^# Expected: .*$", lambda _: f"# Expected: {text}", recipe, count=1, flags=re.MULTILINE)


def expect(board: Board) -> None:
    """Write into the recipes of a board what their lines score."""
    found = standings(board)
    for line in found.lines:
        file = board.folder / "recipes" / f"{line.name}.yaml"
        text = file.read_text(encoding="utf-8")
        if (now := with_expected(text, expected(found, line))) != text:
            file.write_text(now, encoding="utf-8")
