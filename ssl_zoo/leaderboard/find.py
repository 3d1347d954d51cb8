"""Where boards are, and the options of `ssl-zoo leaderboard` that several verbs share."""

from __future__ import annotations

import shutil
from pathlib import Path

import ssl_zoo
from ssl_zoo.compose.composition import ConfigError, near
from ssl_zoo.leaderboard.board import Board, BoardError, Recipe, load


def folders() -> list[Path]:
    """Where boards are looked for: the working folder, then a checkout, then the installed package."""
    package = Path(ssl_zoo.__file__).parent
    places = [Path("benchmarks/leaderboard"), package.parent / "benchmarks/leaderboard", package / "boards"]
    return [place for place in places if place.is_dir()]


def names() -> list[str]:
    """All boards that can be named."""
    return sorted({file.parent.name for place in folders() for file in place.glob("*/board.yaml")})


def find(name: str) -> Board:
    """The board of a name or path.

    Raises:
        BoardError: there is none.
    """
    for folder in (Path(name), *(place / name for place in folders())):
        if (folder / "board.yaml").is_file():
            return load(folder)
    raise BoardError(f"there is no board {name!r}{near(name, names()) or '.'} Boards: {', '.join(names())}")


def writable(board: Board) -> Board:
    """The board, or where it came with the installed package, a copy of it in the working folder."""
    if Path(ssl_zoo.__file__).parent not in board.folder.resolve().parents:
        return board
    copy = Path("benchmarks/leaderboard") / board.name
    print(f"{board.name} is copied to {copy}, where its results go")
    shutil.copytree(board.folder, copy)
    return load(copy)


def only(options: dict[str, str], *known: str) -> None:
    """Raise ConfigError for an option that the verb does not have."""
    for key in options:
        if key not in known:
            raise ConfigError(f"there is no option {key}{near(key, list(known))} Options: {', '.join(known)}")


def number(options: dict[str, str], key: str, default: int) -> int:
    try:
        return int(options.get(key, default))
    except ValueError as error:
        raise ConfigError(f"{key}={options[key]} is no whole number") from error


def chosen_seeds(options: dict[str, str], board: Board) -> tuple[int, ...]:
    """seeds=3 is 0, 1, 2; seeds=[0,4] is 0 and 4."""
    text = options.get("seeds")
    try:
        if text is None:
            return board.seeds
        if text.startswith("["):
            return tuple(int(part) for part in text.strip("[]").split(","))
        return tuple(range(int(text)))
    except ValueError as error:
        raise ConfigError(f"seeds={text}: give a count (3) or a list ([0,4])") from error


def one_board(words: list[str]) -> str:
    if not words:
        raise BoardError(f"which board? Boards: {', '.join(names())}")
    return words[0]


def one_row(board: Board, name: str) -> Recipe:
    """Raises BoardError for a row that the board does not have."""
    if name not in board.recipes:
        rows = list(board.recipes)
        raise BoardError(f"{board.name} has no row {name!r}{near(name, rows)} Rows: {', '.join(rows)}")
    return board.recipes[name]


def trusted(options: dict[str, str]) -> frozenset[str]:
    return frozenset(filter(None, options.get("trust", "").split(",")))
