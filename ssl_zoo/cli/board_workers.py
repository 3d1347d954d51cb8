"""The units of a board, one after the other or in processes side by side."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from ssl_zoo.leaderboard.board import load


def spread(ahead: list[tuple[Path, str, int, Path, frozenset[str]]], jobs: int) -> None:
    """Do the `work` of these arguments in so many processes. A signal to stop reaches all of them."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, watched, (os.getpid(),))
    try:
        for done in as_completed([pool.submit(work_or_leave, *one) for one in ahead]):
            print(done.result(), flush=True)
    except BrokenProcessPool:
        sys.exit("ssl-zoo leaderboard run: one of its processes was stopped; the same command goes on")
    except (KeyboardInterrupt, SystemExit):
        for process in multiprocessing.active_children():
            process.terminate()  # which training notes, to save and end
        pool.shutdown(cancel_futures=True)
        raise
    finally:
        pool.shutdown()  # after an error in one of them, the others go on


def work_or_leave(folder: Path, line: str, seed: int, runs: Path, trust: frozenset[str]) -> str:
    """As `work`; where a signal stops that, the process ends, and begins nothing else."""
    try:
        return work(folder, line, seed, runs, trust)
    except (KeyboardInterrupt, SystemExit):
        sys.stdout.flush()
        os._exit(143)


def watched(parent: int) -> None:
    """Set up a worker process: a thread in it ends the process when `parent`, a process id, has ended."""
    from ssl_zoo.leaderboard.unit import keep_watch

    threading.Thread(target=keep_watch, args=(parent,), daemon=True).start()


_datasets: Any = None


def work(folder: Path, line: str, seed: int, runs: Path, trust: frozenset[str]) -> str:
    """Run and record one seed of a line, unless that is done already.

    Args:
        folder: of the board. runs: the folder of its runs. trust: see `trusted`.

    Returns:
        What happened, in one line of text.
    """
    from ssl_zoo.compose import gate
    from ssl_zoo.compose.boards import BoardComposer
    from ssl_zoo.leaderboard import code, records
    from ssl_zoo.leaderboard.datasets import Datasets
    from ssl_zoo.leaderboard.unit import Busy, Unit

    global _datasets
    if _datasets is None:
        code.freeze()
        _datasets = Datasets(BoardComposer())
    board = load(folder)
    unit = Unit(_datasets.composer, board, board.recipes[line], seed, runs, _datasets, trust)
    before = records.read(board.results).get((line, seed))
    if before is not None and not unit.changes(before):
        return f"{line} seed {seed}: done before"
    try:
        with gate.naming(trust):
            record = unit.run(lambda text: print(f"  {text}", flush=True))
    except Busy as error:
        return f"{line} seed {seed}: left out, as {error}"
    records.append(board.results, record)
    return f"{line} seed {seed}: recorded after {record['seconds']:.0f} s"
