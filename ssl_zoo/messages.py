"""Lines for people: what a run is about to do, what was guessed, what was left out.

They go to the terminal, or to whoever listens: a notebook that wants quiet, a window of somebody's own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str], object]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def ignore(line: str) -> None:
    """The listener that wants quiet."""


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """Within, every line of this thread is handed to `listener`; with None, to whoever listens already."""
    token = _listener.set(_listener.get() if listener is None else listener)
    try:
        yield
    finally:
        _listener.reset(token)


def heard() -> Listener | None:
    """Who listens in this thread; None where lines go to the terminal."""
    return _listener.get()


def note(line: str) -> None:
    """Hand a line to the listener; without one, print it to the standard error, beside what was asked for."""
    listener = heard()
    if listener is None:
        print(line, file=sys.stderr, flush=True)
    else:
        listener(line)
