"""What is written from results: `docs/leaderboard/` (a Markdown page and SVG charts for each board), the
README's table, and what a recipe's header expects. The same results give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_zoo.leaderboard.markdown import grid, markdown
from ssl_zoo.leaderboard.ranking import Row, Standings
from ssl_zoo.leaderboard.table import Stale, standing
from ssl_zoo.pages.board_charts import charts
from ssl_zoo.pages.page import picture
from ssl_zoo.transfer.report import metric

WIDTH = 640  # of a picture, in pixels


def documents(board: Standings, stale: Stale | None = None) -> dict[str, str]:
    """File name -> text: BOARD.md and the SVG of every chart it shows."""
    drawn = charts(board)
    names = {name: f"{board.name}-{name}.svg" for name in drawn}
    found = {names[name]: picture({**spec, "width": WIDTH}) for name, spec in drawn.items()}
    return {f"{board.name}.md": markdown(board, names, stale)} | found


def write_docs(
    boards: Sequence[Standings], folder: str | Path, stale: Mapping[str, Stale] | None = None
) -> list[Path]:
    """Write the documents of every board; the paths written. stale: board -> row -> reason."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for board in boards:
        for name, text in documents(board, (stale or {}).get(board.name)).items():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
    return written


BEGIN, END = "<!-- from results.jsonl: -->", "<!-- :from results.jsonl -->"


def lowered(words: str) -> str:
    """Without the capital that opens a sentence."""
    return words[:1].lower() + words[1:]


def summary(boards: Sequence[Standings]) -> str:
    """The README's tables: of each board that ran, all rows by the primary measure."""
    parts = []
    for board in boards:
        if board.leader is not None:
            header, lines = standing(board)
            parts += [f"[{board.title}](docs/leaderboard/{board.name}.md)", grid(header, lines)]
    return "\n\n".join(parts)


def with_summary(readme: str, boards: Sequence[Standings]) -> str:
    """The README with the table between its marks made anew.

    Raises:
        ValueError: a README without the marks.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no table to write: put {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n{summary(boards)}\n{END}{after}"


def expected(board: Standings, row: Row) -> str:
    """What the header of a recipe says that its row scores."""
    cell = row.headline(board.primary)
    if cell is None:
        return "not run yet"
    unit = " %" if metric(cell.metric).factor == 100 else ""
    seeds = "one seed" if len(cell.seeds) == 1 else f"{len(cell.seeds)} seeds"
    return f"{lowered(board.heading(board.primary))} {cell.text()}{unit} ({seeds})"


def with_expected(recipe: str, text: str) -> str:
    """The text of a recipe with its Expected line made anew; of a row that has not run, as it was."""
    if text == "not run yet":
        return recipe
    return re.sub(r"^# Expected: .*$", lambda _: f"# Expected: {text}", recipe, count=1, flags=re.MULTILINE)
