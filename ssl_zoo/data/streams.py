"""What streams of images and of texts share: arguments, the shards of each split, and those that are open.

Only the shards of the window that is read, and of the next, are on the disk (see `shelf`); which row stands
where is a function of the seed and the place (see `windows`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from ssl_zoo.data.cache import root
from ssl_zoo.data.permutation import permuted
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.shelf import ROOM, File, Shelf, Unpack
from ssl_zoo.data.windows import Windows
from ssl_zoo.messages import note

GIB = 1 << 30

T = TypeVar("T")


class Stream:
    """Shards at addresses, for pretraining on sets that this disk does not hold.

    Args:
        name: what logs and errors call it.
        train: the address of the shards.
        validation: the same, or None: shards are held out of `train`.
        window: rows that are shuffled among each other; their shards have to fit below the limit, and stay
            open while they are read.
        validation_fraction: of the shards, which are drawn by `split_seed`; 0 = no such split.
        limit: GiB of shards on the disk at most.
        cache: folder of the shards; else the environment's SSL_ZOO_CACHE, else ~/.cache/ssl_zoo.

    Raises:
        DataError: an argument is out of range.
    """

    classes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        name: str,
        train: str,
        validation: str | None,
        window: int,
        validation_fraction: float,
        split_seed: int,
        limit: float,
        cache: str | None,
    ):
        if type(window) is not int or window < 1:
            raise DataError(f"{name}: window is a whole number from 1, not {window!r}")
        if not limit > 0:
            raise DataError(f"{name}: limit is a number of GiB above 0, not {limit!r}")
        if not 0 <= validation_fraction < 1:
            raise DataError(f"{name}: validation_fraction is from 0 to below 1, not {validation_fraction!r}")
        if not train:
            raise DataError(f"{name}: train names no shards: give their address")
        self.name, self.train, self.validation, self.window = name, train, validation, window
        self.fraction, self.seed = 0.0 if validation else validation_fraction, split_seed
        self.limit, self.cache = int(limit * GIB), root(cache)

    def splits(self) -> tuple[str, ...]:
        """Which of train and validation there are."""
        return ("train", "validation") if self.validation or self.fraction else ("train",)

    def shelf(self, unpack: Unpack | None = None, made: str = "") -> Shelf:
        """What has the shards here; `unpack` and `made` as `Shelf` takes them."""
        return Shelf(self.cache / ROOM, self.limit, unpack, made)

    def parted(self, count: int) -> dict[str, np.ndarray]:
        """The shards of each split of `count` shards, in their order.

        Raises:
            DataError: too few to hold any out.
        """
        out = max(1, round(self.fraction * count)) if self.fraction else 0
        if out >= count > 0:
            raise DataError(
                f"{self.name}: {count} shard{'s' * (count > 1)} cannot be parted into train and validation: "
                "set data.validation_fraction=0, or name others by data.validation"
            )
        order = permuted(np.arange(count), count, self.seed, "held out")
        if out:
            note(
                f"{self.name}: {out} of {count} shards are held out for validation (data.validation_fraction)"
            )
        return {"train": np.sort(order[out:]), "validation": np.sort(order[:out])}


class ShardRows(ABC, Generic[T]):
    """The rows of shards, of which those that are read are open.

    Args:
        files: the shards. rows: (S,) int64, how many each has. sizes: (S,) int64, the bytes that each takes
            here.
        shelf: what has them here. window: see `Windows`.

    Attributes:
        windows: the order in which training reads them.

    Raises:
        DataError: one window of them is more than the shelf holds.
    """

    def __init__(self, files: list[File], rows: np.ndarray, sizes: np.ndarray, shelf: Shelf, window: int):
        self.files, self.shelf = files, shelf
        self.windows = Windows(rows, window)
        self._opened: OrderedDict[int, T] = OrderedDict()
        self._coming: _Ahead | None = None
        spans = min(-(-window // max(1, int(self.windows.sizes.mean()))) + 1, len(files))
        self.open_at_most = 2 * spans
        self.ahead = self._ahead(sizes, window, spans)

    def _ahead(self, sizes: np.ndarray, window: int, spans: int) -> bool:
        """Whether the shards of two windows fit on the shelf, so that those of the next are fetched early."""
        if self.shelf.place(self.files[0]).parent != self.shelf.folder:
            return False  # they are here
        each = int(np.sort(sizes)[-spans:].sum())
        if each > self.shelf.limit:
            raise DataError(
                f"a window of {window:,} rows may span {spans} shards of {each / GIB:.2f} GiB together, and "
                f"data.limit={self.shelf.limit / GIB:g} GiB of them are kept here: raise data.limit, or take "
                "a smaller data.window"
            )
        return 2 * each <= self.shelf.limit

    def __len__(self) -> int:
        return self.windows.count

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict(), "_coming": None}  # each process opens its own

    @abstractmethod
    def open(self, number: int) -> T:
        """Have a shard here, and open it.

        Raises:
            DataError: it cannot be fetched, or is damaged.
        """

    def prepare(self, shards: np.ndarray) -> None:
        """Be told which shards will be read from now on: they are fetched in a thread, and others are closed.

        What goes wrong is left to whoever reads them.
        """
        for number in self._opened.keys() - set(shards.tolist()):
            del self._opened[number]
        if self.ahead:
            if self._coming is None or self._coming.process != os.getpid():  # threads stay behind in a fork
                self._coming = _Ahead()
            self._coming.fetch(self.shelf, [self.files[i] for i in shards.tolist()])

    def shards_of(self, index: np.ndarray) -> np.ndarray:
        """The shard of each of the rows (n,)."""
        return np.searchsorted(self.windows.starts, index, side="right") - 1

    def opened(self, number: int) -> T:
        """A shard, which stays open as long as few others are asked for. Errors are those of `open`."""
        if number in self._opened:
            self._opened.move_to_end(number)
            return self._opened[number]
        try:
            self._opened[number] = self.open(number)
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.files[number].address} cannot be read: {error}") from error
        if len(self._opened) > self.open_at_most:
            self._opened.popitem(last=False)
        return self._opened[number]


class _Ahead:
    """A thread of a process that fetches files, those that were asked for last."""

    def __init__(self):
        self.wanted: list[File] = []
        self.change, self.process = threading.Lock(), os.getpid()
        self.thread: threading.Thread | None = None

    def fetch(self, shelf: Shelf, files: list[File]) -> None:
        with self.change:
            if files == self.wanted:
                return
            self.wanted = files
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self.work, args=(shelf, files), daemon=True)
                self.thread.start()

    def work(self, shelf: Shelf, files: list[File]) -> None:
        while True:
            for file in files:
                if files is not self.wanted:
                    break
                with contextlib.suppress(DataError):
                    shelf.fetch(file)
            with self.change:
                if files is self.wanted:
                    self.thread = None
                    return
                files = self.wanted
