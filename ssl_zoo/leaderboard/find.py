"""Where boards are, and which line of one is meant."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import ssl_zoo
from ssl_zoo.leaderboard.board import Board, BoardError, Recipe, load


def folders() -> list[Path]:
    """Where boards are looked for: the working folder, then a checkout, then the installed package."""
    package = Path(ssl_zoo.__file__).parent
    places = [Path("benchmarks/leaderboard"), package.parent / "benchmarks/leaderboard", package / "boards"]
    return [place for place in places if place.is_dir()]


def names() -> list[str]:
    """All boards that can be named."""
    return sorted({file.parent.name for place in folders() for file in place.glob("*/board.yaml")})


def near(name: str, known: Iterable[str]) -> str:
    """A known name like the given one, as the end of a clause of an error; "." without one."""
    found = get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else "."


def find(name: str) -> Board:
    """The board of a name or path.

    Raises:
        BoardError: there is none.
    """
    for folder in (Path(name), *(place / name for place in folders())):
        if (folder / "board.yaml").is_file():
            return load(folder)
    raise BoardError(f"there is no board {name!r}{near(name, names())} Boards: {', '.join(names())}")


def recipe_of(board: Board, name: str) -> Recipe:
    """The recipe of a line.

    Raises:
        BoardError: the board does not have it.
    """
    if name not in board.recipes:
        lines = list(board.recipes)
        raise BoardError(f"{board.name} has no line {name!r}{near(name, lines)} Lines: {', '.join(lines)}")
    return board.recipes[name]


def writable(board: Board) -> Board:
    """The board, or where it came with the installed package, a copy of it in the working folder."""
    if Path(ssl_zoo.__file__).parent not in board.folder.resolve().parents:
        return board
    copy = Path("benchmarks/leaderboard") / board.name
    print(f"{board.name} is copied to {copy}, where its results go")
    shutil.copytree(board.folder, copy)
    return load(copy)
