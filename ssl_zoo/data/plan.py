"""Which rows make which batch, a pure function of (seed, step), and the loader that reads them.

Neither the number of workers or processes, nor accumulation, nor what ran before has a say, so a run
resumes from one integer and sees the batches it would have seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ssl_zoo.data.pairs import PairRows
from ssl_zoo.data.permutation import permuted
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.windows import Windows
from ssl_zoo.data.workers import Loader
from ssl_zoo.objectives._base import Batch

T = TypeVar("T")
END = object()


class Plan:
    """The rows of each step's global batch.

    Every epoch is a fresh order of all rows; what does not fill a batch waits for the next one. The order is
    computed where it is asked for, so that neither its length nor the number of processes costs memory.

    Args:
        count: number of rows.
        batch: global batch size: rows per optimizer step, over all processes and accumulation steps.
        seed: the run's seed.
        windows: of rows that lie in shards, which are then read few shards at a time; None: all among all.

    Raises:
        DataError: a batch of no row, or fewer rows than one batch.
    """

    def __init__(self, count: int, batch: int, seed: int, windows: Windows | None = None):
        if batch < 1:
            raise DataError(f"batch_size must be at least 1, not {batch}")
        if count < batch:
            raise DataError(
                f"the data has {count} rows, fewer than one batch of {batch}: "
                f"take batch_size={max(count, 1)} or less, or more data"
            )
        self.count, self.batch, self.seed, self.windows = count, batch, seed, windows
        self.steps_per_epoch = count // batch

    def epoch(self, step: int) -> int:
        """The epoch of step `step`, both counted from 0."""
        return step // self.steps_per_epoch

    def rows(self, step: int, part: int = 0, parts: int = 1) -> np.ndarray:
        """Row numbers of step `step`, counted from 0, or of one of its equal parts: (batch / parts,)."""
        epoch, k = divmod(step, self.steps_per_epoch)
        each = self.batch // parts
        first = k * self.batch + part * each
        places = np.arange(first, first + each)
        if self.windows is not None:
            return self.windows.order(places, self.seed, epoch)
        return permuted(places, self.count, self.seed, epoch)

    def soon(self, step: int) -> np.ndarray:
        """The shards of this step's window and of the next one, in the order in which they are needed."""
        assert self.windows is not None
        epoch, k = divmod(step, self.steps_per_epoch)
        place = k * self.batch
        after = place + self.windows.window
        now = self.windows.shards(place, self.seed, epoch)
        then = (after, epoch) if after < self.count else (0, epoch + 1)
        return np.concatenate([now, self.windows.shards(then[0], self.seed, then[1])])


class Parts(Dataset):
    """Item m is part m of the batches: (m, Batch), m = step * accumulate + part within the step.

    Args:
        accumulate: number of parts of a step that each process works on.
        world, rank: number of processes, and which of them this one is.
        read: False where the x of all rows lives on the device: their numbers (B,) then take its place.
        numbered: whether batches carry the numbers of their rows.

    Raises:
        DataError: a batch does not divide into equal parts.
    """

    def __init__(
        self,
        rows: Rows,
        plan: Plan,
        accumulate: int,
        world: int,
        rank: int,
        read: bool = True,
        numbered: bool = False,
    ):
        self.rows, self.plan, self.accumulate, self.world, self.rank = rows, plan, accumulate, world, rank
        self.read, self.numbered = read, numbered
        self.parts = accumulate * world
        if plan.batch % self.parts:
            raise DataError(
                f"batch_size={plan.batch} does not divide over {world} processes x {accumulate} accumulation "
                f"steps; take a multiple of {self.parts}"
            )

    def __getitem__(self, micro: int) -> tuple[int, Batch]:
        step, part = divmod(micro, self.accumulate)
        index = self.plan.rows(step, part * self.world + self.rank, self.parts)
        epoch = self.plan.epoch(step)
        if self.plan.windows is not None:
            self.rows.prepare(self.plan.soon(step))  # pyright: ignore[reportAttributeAccessIssue]
        batch = self.rows.read(index, epoch) if self.read else self._without_x(index, epoch)
        return micro, batch._replace(index=torch.from_numpy(index)) if self.numbered else batch

    def _without_x(self, index: np.ndarray, epoch: int) -> Batch:
        y = self.rows.y
        return Batch(
            torch.from_numpy(index),
            y=None if y is None else torch.from_numpy(y[index]),
            other=self.rows.second.read(index, epoch) if isinstance(self.rows, PairRows) else None,
        )


class From(Sampler):
    """Counts on from wherever training stands when iteration begins. Its length is that of the whole run."""

    def __init__(self, start: Callable[[], int], stop: int):
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        # A generator: `start` is asked when the first item is drawn, after a checkpoint is restored.
        yield from range(self.start(), self.stop)

    def __len__(self) -> int:
        return self.stop


class Feed:
    """The items of a loader, one at a time.

    Args:
        items: the loader.
        ahead: a thread reads the next item while the last one is worked on.

    Attributes:
        waited: seconds for which whoever takes the items has stood still for them.
    """

    def __init__(self, items: Loader, ahead: bool):
        self.items, self.ahead, self.waited = items, ahead, 0.0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        items = one_ahead(self.items) if self.ahead else iter(self.items)
        while True:
            asked = time.perf_counter()
            item = next(items, None)
            self.waited += time.perf_counter() - asked
            if item is None:
                return
            yield item


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """`items`, of which a thread reads the next one while the caller works on the last.

    What goes wrong in the thread is raised where the item would have come. It ends with this iterator.
    """
    source = iter(items)
    # Every thread has a current device of its own, and memory is pinned for that one.
    begin = (
        partial(torch.cuda.set_device, torch.cuda.current_device()) if torch.cuda.is_initialized() else None
    )
    with ThreadPoolExecutor(1, "one-ahead", begin) as thread:
        coming = thread.submit(next, source, END)
        while (item := coming.result()) is not END:
            coming = thread.submit(next, source, END)
            yield item  # pyright: ignore[reportReturnType]


def loader(parts: Parts, start: Callable[[], int], stop: int, workers: int, pin: bool) -> Feed:
    """A loader over the parts [start(), stop); each worker reads whole parts.

    Without workers, and with memory to pin for a device that computes meanwhile, a thread reads one part
    ahead. On a CPU the step needs the cores itself.
    """
    items = Loader(
        parts,
        batch_size=None,
        sampler=From(start, stop),
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=2 if workers else None,
    )
    return Feed(items, ahead=pin and parts.read and not workers)
