"""Work that a thread does while training goes on: one piece at a time, and its failure is not lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

T = TypeVar("T")


class Background:
    """Where checkpoints are written: by a thread, or at once.

    Args:
        on: whether by a thread.
    """

    def __init__(self, on: bool = False):
        self.on = on
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._work: Future[None] | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Do it, or begin to, once what was begun before is over.

        Raises:
            Exception: what the work before raised and, where this is done at once, what it raises.
        """
        self.finish()
        if self.on:
            self._work = self._threads.submit(work)
        else:
            work()

    def finish(self) -> None:
        """Wait until nothing is left to do.

        Raises:
            Exception: what the work raised, once.
        """
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def frozen(self, state: T) -> T:
        """What the thread may read while training goes on: a copy of lists and dicts, with all tensors on
        the CPU. It is the state itself where nothing is done by a thread."""
        known: dict[Any, Tensor] = {}

        def copied(tensor: Tensor) -> Tensor:
            own = tensor.detach()
            if type(own) is not Tensor or not own.numel():
                return own.to("cpu", copy=True)
            place = own.data_ptr(), own.shape, own.stride(), own.dtype  # tied weights stay one
            if place not in known:
                known[place] = own.to("cpu", copy=True)
            return known[place]

        return apply_to_collection(state, Tensor, copied) if self.on else state
