"""Sides for test_speed_harness.py, in a light file: every process of a duel imports it."""

import os
import time
from collections.abc import Callable
from pathlib import Path


def diary(file: Path, name: str, first: float, gate: Callable) -> None:
    """A side that writes down when it works; its first pieces are slow, as a warm-up is."""
    gate(0)
    count = 0
    while True:
        time.sleep(first if count < 1 else 0.01)
        count += 1
        with file.open("a") as lines:
            lines.write(f"{name}\n")
        gate(1)


def broken(gate: Callable) -> None:
    gate(1)
    raise KeyError("no such batch")


def finished(gate: Callable) -> None:
    gate(1)


def weighed(mib: float, gate: Callable) -> None:
    gate.note(mib=mib, threads=int(os.environ["OMP_NUM_THREADS"]))
    gate(0)


def raced(minutes: float, reached: bool, gate: Callable) -> None:
    gate.note(minutes=minutes, accuracy=0.4 if reached else 0.3, reached=reached)
    gate(0)
