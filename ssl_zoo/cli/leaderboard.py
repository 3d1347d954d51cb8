"""`ssl-zoo leaderboard`: run a board, run a row again, see where it stands, add a row of one's own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import ssl_zoo
from ssl_zoo.cli import compose
from ssl_zoo.cli.compose import ConfigError
from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.board import Board, BoardError, load, spelt

HELP = """\
ssl-zoo leaderboard: boards of pretraining recipes, measured the same way

  run BOARD [ROW ...] [seeds=3] [jobs=1]   what is not done yet; an interrupted board goes on where it stopped
  reproduce BOARD/ROW [seed=0]             once more from nothing; is the new figure inside the stated interval?
  show [BOARD]                             the table, or all boards
  check [BOARD ...] [strict=true]          rows whose code or data changed since, and files with faults
  add BOARD ROW KEY=VALUE ...              a recipe of your own, of words as `ssl-zoo pretrain` takes them
  site [OUT]                               all boards as a static site (default: build/site)
  docs                                     docs/leaderboard/ and the expected scores of the recipes, from the results

  Boards are folders: BOARD is a path, or a name in ./benchmarks/leaderboard. Every row is one command.
  Options: runs=FOLDER (default: runs/leaderboard), seeds=3 or seeds=[0,4], jobs=2 (processes, one thread each).
"""


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
    raise BoardError(f"there is no board {name!r}{compose.near(name, names())} Boards: {', '.join(names())}")


def writable(board: Board) -> Board:
    """The board, or where it came with the installed package, a copy of it in the working folder."""
    if Path(ssl_zoo.__file__).parent not in board.folder.resolve().parents:
        return board
    copy = Path("benchmarks/leaderboard") / board.name
    print(f"{board.name} is copied to {copy}, where its results go")
    shutil.copytree(board.folder, copy)
    return load(copy)


def main(args: list[str]) -> None:
    """Entry point."""
    verbs: dict[str, Callable[[list[str], dict[str, str]], None]] = {
        "run": run, "reproduce": reproduce, "show": show, "check": check, "add": add, "site": site, "docs": docs,
    }  # fmt: skip
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    verb, *rest = args
    if verb not in verbs:
        sys.exit(f"ssl-zoo leaderboard: no verb {verb!r}{compose.near(verb, list(verbs))} Verbs: {', '.join(verbs)}")
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    try:
        verbs[verb]([word for word in rest if "=" not in word], options)
    except compose.EXPECTED as error:
        if os.environ.get("SSL_ZOO_TRACEBACK"):
            raise
        sys.exit(f"ssl-zoo leaderboard {verb}: {compose.explain(error)}")


def only(options: dict[str, str], *known: str) -> None:
    """Raise ConfigError for an option that the verb does not have."""
    for key in options:
        if key not in known:
            raise ConfigError(f"there is no option {key}{compose.near(key, list(known))} Options: {', '.join(known)}")


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


def run(words: list[str], options: dict[str, str]) -> None:
    """Bring a board up to date."""
    only(options, "seeds", "jobs", "runs")
    board = writable(find(one_board(words)))
    rows = words[1:] or list(board.recipes)
    for row in rows:
        if row not in board.recipes:
            raise BoardError(
                f"{board.name} has no row {row!r}{compose.near(row, list(board.recipes))} "
                f"Rows: {', '.join(board.recipes)}"
            )
    jobs, runs = number(options, "jobs", 1), Path(options.get("runs", "runs/leaderboard"))
    ahead = [(row, seed) for seed in chosen_seeds(options, board) for row in rows]
    if jobs == 1:
        for row, seed in ahead:
            print(work(board.folder, row, seed, runs), flush=True)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, watched, (os.getpid(),)) as pool:
            for done in as_completed([pool.submit(work, board.folder, row, seed, runs) for row, seed in ahead]):
                print(done.result(), flush=True)
    show([str(board.folder)], {})


def watched(parent: int) -> None:
    """Set up a worker process: one thread, and an end when its parent ends."""
    from ssl_zoo.cli.board_unit import keep_watch

    threading.Thread(target=keep_watch, args=(parent,), daemon=True).start()


_datasets: Any = None


def work(folder: Path, row: str, seed: int, runs: Path) -> str:
    """One unit: nothing where it is done already, else run and recorded. What happened, in a line."""
    from ssl_zoo.cli.board_unit import Busy, Datasets, Unit

    global _datasets
    _datasets = _datasets or Datasets()
    board = load(folder)
    unit = Unit(board, board.recipes[row], seed, runs, _datasets)
    before = records.read(board.results).get((row, seed))
    if before is not None and not unit.changes(before):
        return f"{row} seed {seed}: done before"
    try:
        record = unit.run(lambda line: print(f"  {line}", flush=True))
    except Busy as error:
        return f"{row} seed {seed}: left out, as {error}"
    records.append(board.results, record)
    return f"{row} seed {seed}: recorded after {record['seconds']:.0f} s"


def show(words: list[str], options: dict[str, str]) -> None:
    print(words)
def reproduce(words: list[str], options: dict[str, str]) -> None: ...
def check(words: list[str], options: dict[str, str]) -> None: ...
def add(words: list[str], options: dict[str, str]) -> None: ...
def site(words: list[str], options: dict[str, str]) -> None: ...
def docs(words: list[str], options: dict[str, str]) -> None: ...
