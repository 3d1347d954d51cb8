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
    """Within, in this thread, every line is handed to `listener`; None leaves all as it is."""
    token = _listener.set(_listener.get() if listener is None else listener)
    try:
        yield
    finally:
        _listener.reset(token)


def heard() -> Listener | None:
    """Who listens in this thread; None where lines go to the terminal."""
    return _listener.get()


def note(line: str) -> None:
    """A line that stands beside what is asked for: to the listener, else to the standard error."""
    listener = heard()
    if listener is None:
        print(line, file=sys.stderr, flush=True)
    else:
        listener(line)
