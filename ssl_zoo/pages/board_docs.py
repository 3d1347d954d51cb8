"""`docs/leaderboard/`: a Markdown page for each board with its charts as SVG; same results, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_zoo.leaderboard.ranking import Standings
from ssl_zoo.leaderboard.table import Stale, markdown
from ssl_zoo.pages.board_charts import charts
from ssl_zoo.pages.page import picture

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
