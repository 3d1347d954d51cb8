"""`ssl-zoo leaderboard show`, `site` and `docs`: the boards as a table, as pages, and in docs/."""

from __future__ import annotations

from pathlib import Path

from ssl_zoo.leaderboard.board import BoardError
from ssl_zoo.leaderboard.check import stale
from ssl_zoo.leaderboard.datasets import AbsentDatasets
from ssl_zoo.leaderboard.find import find, names, only
from ssl_zoo.leaderboard.ranking import Standings
from ssl_zoo.leaderboard.standings import standings
from ssl_zoo.leaderboard.table import show as table
from ssl_zoo.pretrain.checkpoint import write_atomically


def ranked(words: list[str]) -> tuple[list[Standings], dict[str, dict[str, str]]]:
    """The named boards, or all, and what is stale in each."""
    boards = [find(name) for name in words or names()]
    datasets = AbsentDatasets()  # boards share data sets: each is read once
    return [standings(board) for board in boards], {board.name: stale(board, datasets) for board in boards}


def show(words: list[str], options: dict[str, str]) -> None:
    """Print the tables of the named boards, or of all."""
    only(options)
    found, why = ranked(words)
    for one in found:
        print(table(one, why[one.name]))


def site(words: list[str], options: dict[str, str]) -> None:
    """Write all boards as a static site."""
    from ssl_zoo.pages.site import write_site

    only(options)
    out = Path(words[0] if words else "build/site")
    found, why = ranked([])
    write_site(found, out, why)
    print(f"written to {out}; open {out / 'index.html'}")


def docs(words: list[str], options: dict[str, str]) -> None:
    """Write, from the results: docs/leaderboard, the README's table, and what the recipes expect."""
    from ssl_zoo.pages.board_docs import expected, with_expected, with_summary, write_docs

    only(options)
    readme = Path("README.md")
    if words or not readme.is_file():
        raise BoardError("docs is for a checkout of ssl_zoo, and writes of all its boards: give no words")
    boards = [find(name) for name in names()]
    found = [standings(board) for board in boards]
    for board, one in zip(boards, found, strict=True):
        for row in one.rows:
            file = board.folder / "recipes" / f"{row.name}.yaml"
            text = with_expected(file.read_text(encoding="utf-8"), expected(one, row))
            write_atomically(file, text.encode())
    found = [standings(find(name)) for name in names()]  # which show what their recipes say
    readme.write_text(with_summary(readme.read_text(encoding="utf-8"), found), encoding="utf-8")
    write_docs(found, Path("docs/leaderboard"))
    print("written: docs/leaderboard, README.md, benchmarks/leaderboard/*/recipes")
