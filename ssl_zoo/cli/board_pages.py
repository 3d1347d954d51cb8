"""`ssl-zoo leaderboard show`, `site` and `docs`: the boards as a table, as pages, and in docs/."""

from __future__ import annotations

from pathlib import Path

from ssl_zoo.cli.board_check import stale
from ssl_zoo.cli.board_find import find, names, only
from ssl_zoo.leaderboard.ranking import Standings
from ssl_zoo.leaderboard.standings import standings
from ssl_zoo.leaderboard.table import show as table


def ranked(words: list[str]) -> tuple[list[Standings], dict[str, dict[str, str]]]:
    """The named boards, or all, and what is stale in each."""
    boards = [find(name) for name in words or names()]
    return [standings(board) for board in boards], {board.name: stale(board) for board in boards}


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
    """Write docs/leaderboard from the results; of the named boards, or of all."""
    from ssl_zoo.pages.board_docs import write_docs

    only(options)
    found, why = ranked(words)
    write_docs(found, Path("docs/leaderboard"), why)
    print("written to docs/leaderboard")
