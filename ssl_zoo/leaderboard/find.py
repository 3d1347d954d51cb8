"""Where boards are, and which line of one is meant."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import ssl_zoo
from ssl_zoo.leaderboard.board import Board, BoardError, Recipe, load


def folders() -> list[Path]:
    """The folders in which boards are looked for, first to last: of the working folder, of a checkout, and of
    the installed package."""
    package = Path(ssl_zoo.__file__).parent
    places = [Path("benchmarks/leaderboard"), package.parent / "benchmarks/leaderboard", package / "boards"]
    return [place for place in places if place.is_dir()]


def names() -> list[str]:
    """The names of all boards that are found."""
    return sorted({file.parent.name for place in folders() for file in place.glob("*/board.yaml")})


def near(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that refuses a name: "; did you mean 'known'?", or "." where no known name is
    like it."""
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
    known = names()
    raise BoardError(f"there is no board {name!r}{near(name, known)} Boards: {', '.join(known) or 'none'}")


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
    """The board itself; of one that came with the installed package, a copy in the working folder.

    Raises:
        FileExistsError: the working folder has something else where the copy belongs.
    """
    if Path(ssl_zoo.__file__).resolve().parent not in board.folder.resolve().parents:
        return board
    copy = Path("benchmarks/leaderboard") / board.name
    print(f"{board.name} is copied to {copy}, where its results go")
    shutil.copytree(board.folder, copy)
    return load(copy)
