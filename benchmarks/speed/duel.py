"""Two or more programs that take turns: A/B/A/B windows of work in one process group.

Every side runs in a process of its own, with its threads and cores fixed, and sets itself up once.
Then the sides work in turns: one side alone for a window of some seconds, while the others wait at
their gate. A side is a function that calls `gate(units)` after each piece of work (a batch of views, an
optimizer step); the gate holds it when its window is over. So whole trainers can be timed from
inside, start-up and warm-up left out, and slow hours of the machine hit all sides alike.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NoReturn


class Over(BaseException):
    """Raised in a side when no more windows are wanted; not an Exception, so that no trainer swallows it."""


def _signal(process: Any, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, what)


class Gate:
    """What a side calls after each piece of work. `note` adds facts about the side to the results.

    settle: called before a window's clock stops; a side on a GPU waits here for what it has queued.
    """

    def __init__(self, connection: Connection, seconds: float):
        self.connection, self.seconds = connection, seconds
        self.units = 0.0
        self.began: float | None = None
        self.settle: Callable[[], object] = lambda: None

    def __call__(self, units: float) -> None:
        if self.began is None:  # the first piece of work belongs to setting up
            self._wait(("ready",))
            return
        self.units += units
        if time.perf_counter() - self.began >= self.seconds:
            self.settle()
            self._wait(("window", self.units, time.perf_counter() - self.began))

    def note(self, **facts: Any) -> None:
        self.connection.send(("note", facts))

    def _wait(self, message: tuple[Any, ...]) -> None:
        # Loader workers of a side that waits would work on in the other's time, and have batches ready
        # when the next window begins: they stop with it.
        workers = mp.active_children()
        for worker in workers:
            _signal(worker, signal.SIGSTOP)
        self.connection.send(message)
        answer = self.connection.recv()
        for worker in workers:
            _signal(worker, signal.SIGCONT)
        if answer != "go":
            raise Over
        self.units, self.began = 0.0, time.perf_counter()


Side = Callable[[Gate], None]


@dataclass
class Case:
    """One line of the table.

    Args:
        title: what is measured. unit: of work. against: what the bar speaks of.
        sides: name -> function; the first is ours, all others are peers, and the best of them counts.
        bar: least ratio of ours to the best peer.
        same, differs: what the sides share, and what not.
        threads: torch threads and cores of each side. seconds: length of a window.
        asides: sides that are shown, but are not what the bar speaks of.
        rounds: at most so many, where a piece of work takes long.
    """

    title: str
    unit: str
    against: str
    sides: dict[str, Side]
    bar: float
    same: str
    differs: str
    threads: int = 1
    seconds: float = 3.0
    asides: tuple[str, ...] = ()
    rounds: int | None = None


@dataclass
class Memory(Case):
    """Sides that note `mib`, call the gate once and end; `bar` is the most that ours may be of the peer's."""


@dataclass
class Race(Case):
    """Sides that note the `minutes` until a goal and whether they `reached` it, call the gate once and end.

    `bar` is how many times as long as ours the fastest peer has to take at least. A side that gives up notes
    the minutes after which it did: its ratio is then a least or a most one.
    """


@dataclass
class Outcome:
    """Units per second of each side in each round, and what the sides noted."""

    rates: dict[str, list[float]]
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def best(self, names: list[str]) -> str:
        return max(names, key=lambda name: median(self.rates[name]))

    def ratios(self, ours: str, peer: str) -> list[float]:
        """Of neighbouring windows, round by round."""
        return [a / b for a, b in zip(self.rates[ours], self.rates[peer], strict=True)]


def fix_threads(threads: int) -> None:
    """This process and its children on the first cores, torch and every pool with as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if torch := sys.modules.get("torch"):  # else it reads the environment when it is imported
        torch.set_num_threads(threads)


def _work(side: Side, case: Case, connection: Connection, method: str, log: str) -> None:
    with open(log, "w") as file:  # trainers talk, and the table is the parent's
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def tell(*message: Any) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            connection.send(message)

    # A process that was spawned spawns its children too: a side's loader starts its workers as in a script.
    mp.set_start_method(method, force=True)
    try:
        fix_threads(case.threads)
        side(Gate(connection, case.seconds))
        tell("failed", "it ended before it was told to")
    except Over:
        pass
    except BaseException:
        tell("failed", traceback.format_exc())
    finally:
        # Loader workers and loggers of a trainer that was stopped mid-step have nothing left to save.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tell("end", memory)
        connection.close()
        for child in mp.active_children():
            child.kill()
        os._exit(0)


_preloaded: list[str] = []  # modules that sides find imported


def preload(*modules: str) -> None:
    """From now on let sides begin with these imported, where nothing is measured that this would change."""
    _preloaded.extend(modules)
    mp.set_forkserver_preload(_preloaded)


class _Player:
    def __init__(self, name: str, side: Side, case: Case):
        self.name = name
        context = mp.get_context("forkserver" if _preloaded else "spawn")
        self.connection, theirs = context.Pipe()
        self.log = tempfile.NamedTemporaryFile(prefix="side-", suffix=".log")  # noqa: SIM115
        self.process = context.Process(
            target=_work,
            args=(side, replace(case, sides={}), theirs, mp.get_start_method(), self.log.name),
        )
        self.notes: dict[str, Any] = {}
        self.process.start()
        theirs.close()

    def hear(self) -> tuple[Any, ...]:
        while True:
            try:
                kind, *rest = self.connection.recv()
            except EOFError:
                said = Path(self.log.name).read_text(errors="replace")[-2000:]
                self._fail(f"its process died; last it said\n{said}")
            if kind == "note":
                self.notes |= rest[0]
            elif kind == "failed":
                self._fail(rest[0])
            else:
                return kind, *rest

    def _fail(self, why: str) -> NoReturn:
        raise RuntimeError(f"{self.name}: {why}")

    def window(self) -> float:
        self.connection.send("go")
        _, units, seconds = self.hear()
        return units / seconds

    def end(self) -> None:
        self.connection.send("stop")
        _, memory = self.hear()
        self.notes["peak_mib"] = round(memory / 1024)

    def stop(self) -> None:
        """Make sure that it ends. One that waits goes by itself, and takes its loader workers along."""
        with contextlib.suppress(OSError):
            self.connection.send("stop")
        self.process.join(10)
        self.process.kill()


def alone(case: Case) -> dict[str, dict[str, Any]]:
    """Each side by itself, in a fresh process, until it first calls its gate: what it noted."""
    notes = {}
    for name, side in case.sides.items():
        player = _Player(name, side, case)
        try:
            player.hear()
            player.end()
        finally:
            player.stop()
        notes[name] = player.notes
    return notes


def play(case: Case, rounds: int = 5) -> Outcome:
    """One warm-up window of each side, then `rounds` windows of each, in turns."""
    players: list[_Player] = []
    try:
        for name, side in case.sides.items():  # one after the other: set-ups do not compete
            players.append(_Player(name, side, case))
            players[-1].hear()
        rates: dict[str, list[float]] = {player.name: [] for player in players}
        for turn in range(rounds + 1):
            for player in players:
                rate = player.window()
                if turn:
                    rates[player.name].append(rate)
        for player in players:
            player.end()
        return Outcome(rates, {player.name: player.notes for player in players})
    finally:
        for player in players:
            player.stop()
