"""`ssl-zoo leaderboard`: run a board, run a row again, see where it stands, add a row of one's own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from ssl_zoo.compose import composition, gate
from ssl_zoo.leaderboard import code, records
from ssl_zoo.leaderboard.board import load
from ssl_zoo.leaderboard.find import chosen_seeds, find, number, one_board, one_row, only, trusted, writable

HELP = """\
ssl-zoo leaderboard: boards of pretraining recipes, measured the same way

  run BOARD [ROW ...] [seeds=3] [jobs=1]   what is not done yet; an interrupted board goes on where it stopped
  reproduce BOARD/ROW [seed=0]             once more from nothing: does it lie in the stated interval?
  show [BOARD]                             the table, or all boards
  check [BOARD ...] [strict=true]          rows whose code or data changed since, and files with faults
  add BOARD ROW KEY=VALUE ...              a recipe of your own, of words as `ssl-zoo pretrain` takes them
  site [OUT]                               all boards as a static site (default: build/site)
  docs                                     docs/leaderboard/ and what recipes expect, from the results

  Boards are folders: BOARD is a path, or a name in ./benchmarks/leaderboard. Every row is one command.
  Options: runs=FOLDER (default: runs/leaderboard), seeds=3 or seeds=[0,4], jobs=2 (processes), and
  trust=mine.Objective,... : classes outside this library that recipes may build.
"""


def main(args: list[str]) -> None:
    """Entry point."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    from ssl_zoo.leaderboard import add, check, publish

    verbs: dict[str, Callable[[list[str], dict[str, str]], None]] = {
        "run": run,
        "reproduce": check.reproduce,
        "show": publish.show,
        "check": check.check,
        "add": add.add,
        "site": publish.site,
        "docs": publish.docs,
    }
    verb, *rest = args
    if verb not in verbs:
        near = composition.near(verb, list(verbs))
        sys.exit(f"ssl-zoo leaderboard: no verb {verb!r}{near} Verbs: {', '.join(verbs)}")
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    try:
        with gate.naming(trusted(options)):
            verbs[verb]([word for word in rest if "=" not in word], options)
    except composition.EXPECTED as error:
        if os.environ.get("SSL_ZOO_TRACEBACK"):
            raise
        sys.exit(f"ssl-zoo leaderboard {verb}: {composition.explain(error)}")


def run(words: list[str], options: dict[str, str]) -> None:
    """Bring a board up to date."""
    from ssl_zoo.leaderboard import publish, stages  # these take seconds to import

    only(options, "seeds", "jobs", "runs", "trust")
    board = writable(find(one_board(words)))
    rows = [one_row(board, name).name for name in words[1:]] or list(board.recipes)
    stages.check(board, (board.recipes[row] for row in rows), trusted(options))
    jobs, runs = number(options, "jobs", 1), Path(options.get("runs", "runs/leaderboard"))
    trust = trusted(options)
    ahead = [(board.folder, row, seed, runs, trust) for seed in chosen_seeds(options, board) for row in rows]
    if jobs == 1:
        for one in ahead:
            print(work(*one), flush=True)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, watched, (os.getpid(),)) as pool:
            for done in as_completed([pool.submit(work, *one) for one in ahead]):
                print(done.result(), flush=True)
    publish.show([str(board.folder)], {})


def watched(parent: int) -> None:
    """Set up a worker process: one thread, and an end when its parent ends."""
    from ssl_zoo.leaderboard.unit import keep_watch

    threading.Thread(target=keep_watch, args=(parent,), daemon=True).start()


_datasets: Any = None


def work(folder: Path, row: str, seed: int, runs: Path, trust: frozenset[str]) -> str:
    """One unit: nothing where it is done already, else run and recorded. What happened, in a line."""
    from ssl_zoo.leaderboard.datasets import Datasets
    from ssl_zoo.leaderboard.unit import Busy, Unit

    global _datasets
    if _datasets is None:
        code.freeze()
        _datasets = Datasets()
    board = load(folder)
    unit = Unit(board, board.recipes[row], seed, runs, _datasets, trust)
    before = records.read(board.results).get((row, seed))
    if before is not None and not unit.changes(before):
        return f"{row} seed {seed}: done before"
    try:
        with gate.naming(trust):  # again: this may be a process of its own
            record = unit.run(lambda line: print(f"  {line}", flush=True))
    except Busy as error:
        return f"{row} seed {seed}: left out, as {error}"
    records.append(board.results, record)
    return f"{row} seed {seed}: recorded after {record['seconds']:.0f} s"
