"""Pairs: rows with a second half, as images with captions, or documents with documents."""

from __future__ import annotations

import hashlib

import numpy as np

from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.noise import fold, mixed
from ssl_zoo.objectives._base import Batch


class PairRows:
    """Rows whose other half is the row of the same number of other rows.

    `read` gives the batch of `first` with that of `second` as its `other`. Labels, classes and units are of
    `first`.

    Raises:
        DataError: the halves are not equally many.
    """

    def __init__(self, first: Rows, second: Rows):
        if len(first) != len(second):
            raise DataError(f"pairs need a second half each: there are {len(first)} and {len(second)} rows")
        self.first, self.second = first, second
        self.unit, self.units_per_row = first.unit, first.units_per_row
        self.y, self.classes = first.y, first.classes
        self.fingerprint = f"{first.fingerprint}&{second.fingerprint}"

    def __len__(self) -> int:
        return len(self.first)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        return self.first.read(index, epoch)._replace(other=self.second.read(index, epoch))


class DrawnRows:
    """Row i is one of the rows first[i], ..., first[i] + count[i] - 1 of others, drawn anew in each epoch.

    Args:
        rows: what is drawn from.
        first, count: (N,) int64; each count is at least 1.
        seed: with epoch and i, decides the draw, in whatever batch row i is read.
    """

    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __init__(self, rows: Rows, first: np.ndarray, count: np.ndarray, seed: int = 0):
        self.rows, self.seed = rows, seed
        self.start, self.count = np.asarray(first, np.int64), np.asarray(count, np.int64)
        self.unit, self.units_per_row = rows.unit, rows.units_per_row
        digest = hashlib.blake2b(self.start.tobytes() + self.count.tobytes(), digest_size=8).hexdigest()
        self.fingerprint = f"{rows.fingerprint}[{digest} by {seed}]"

    def __len__(self) -> int:
        return len(self.start)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        index = np.asarray(index, np.int64)
        share = (mixed(index.astype(np.uint64), fold("draw", self.seed, epoch)) >> np.uint64(40)) * 2.0**-24
        return self.rows.read(self.start[index] + (share * self.count[index]).astype(np.int64), epoch)
