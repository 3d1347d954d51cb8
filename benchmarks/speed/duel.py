"""Two or more programs that take turns: A/B/A/B windows of work in one process group.

Every side runs in a process of its own, with its threads and cores fixed, and sets itself up once.
Then the sides work in turns: one side alone for a window of some seconds, while the others wait at
their gate. A side is a function that calls `gate(units)` after each piece of work (a batch of views, an
optimizer step); the gate holds it when its window is over. So whole trainers can be timed from
inside, start-up and warm-up left out, and slow hours of the machine hit all sides alike.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, NoReturn


class Over(BaseException):
    """Raised in a side when no more windows are wanted; not an Exception, so that no trainer swallows it."""


class Gate:
    """What a side calls after each piece of work. `note` adds facts about the side to the results."""

    def __init__(self, connection: Connection, seconds: float):
        self.connection, self.seconds = connection, seconds
        self.units = 0.0
        self.began: float | None = None

    def __call__(self, units: float) -> None:
        now = time.perf_counter()
        if self.began is None:  # the first piece of work belongs to setting up
            self._wait(("ready",))
            return
        self.units += units
        if now - self.began >= self.seconds:
            self._wait(("window", self.units, now - self.began))

    def note(self, **facts: Any) -> None:
        self.connection.send(("note", facts))

    def _wait(self, message: tuple[Any, ...]) -> None:
        self.connection.send(message)
        if self.connection.recv() != "go":
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
    asides: tuple[str, ...] = ()  # sides that are shown, but are not what the bar speaks of


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
    import torch

    torch.set_num_threads(threads)


def _work(side: Side, threads: int, seconds: float, connection: Connection, path: list[str]) -> None:
    sys.path[:] = path
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # trainers talk; the table is the parent's
    try:
        fix_threads(threads)
        side(Gate(connection, seconds))
        connection.send(("failed", "it ended before it was told to"))
    except Over:
        pass
    except BaseException:
        connection.send(("failed", traceback.format_exc()))
    finally:
        # Loader workers and loggers of a trainer that was stopped mid-step have nothing left to save.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        connection.send(("end", memory))
        connection.close()
        for child in mp.active_children():
            child.kill()
        os._exit(0)


class _Player:
    def __init__(self, name: str, side: Side, case: Case):
        self.name = name
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(side, case.threads, case.seconds, theirs, list(sys.path))
        )
        self.notes: dict[str, Any] = {}
        self.process.start()
        theirs.close()

    def hear(self) -> tuple[Any, ...]:
        while True:
            try:
                kind, *rest = self.connection.recv()
            except EOFError:
                self._fail("its process died")
            if kind == "note":
                self.notes |= rest[0]
            elif kind == "failed":
                self._fail(rest[0])
            else:
                return kind, *rest

    def _fail(self, why: str) -> NoReturn:
        self.process.kill()
        raise RuntimeError(f"{self.name}: {why}")

    def window(self) -> float:
        self.connection.send("go")
        _, units, seconds = self.hear()
        return units / seconds

    def end(self) -> None:
        self.connection.send("stop")
        _, memory = self.hear()
        self.notes["peak_mib"] = round(memory / 1024)
        self.process.join()


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
            if player.process.is_alive():
                player.process.kill()
