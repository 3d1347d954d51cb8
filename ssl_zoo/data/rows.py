"""Rows: what both pretraining and transfer read from. Images and text look alike from here on."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.objectives._base import LACKING, Batch, Objective


class DataError(ValueError):
    """Something is wrong with the data; the message says what, where, and what would work."""


class Rows(Protocol):
    """A fixed number of samples that are read by index.

    Attributes:
        fingerprint: changes when the content does; a resumed run refuses another one.
        unit: what is counted for throughput: "images" or "tokens".
        units_per_row: how many of them a row holds.
        y: (N,) int64 labels, or None.
        classes: names of the labels; () without labels.
    """

    fingerprint: str
    unit: str
    units_per_row: int
    y: np.ndarray | None
    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The rows `index` (int64), as CPU tensors. `epoch` may shift where packed rows begin."""
        ...


class Subset:
    """Some rows of others, in the given order."""

    def __init__(self, rows: Rows, index: np.ndarray):
        self.rows, self.index = rows, np.asarray(index, dtype=np.int64)
        self.unit, self.units_per_row, self.classes = rows.unit, rows.units_per_row, rows.classes
        self.y = None if rows.y is None else rows.y[self.index]
        index = np.ascontiguousarray(self.index, dtype="<i8")
        chosen = hashlib.blake2b(index.data, digest_size=8).hexdigest()
        self.fingerprint = f"{rows.fingerprint}[{chosen}]"

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        return self.rows.read(self.index[index], epoch)


def refuse_lacking(objective: Objective, rows: Rows) -> None:
    """Raise DataError if the rows have no labels or second halves, and the objective reads them."""
    one = rows.read(np.zeros(1, np.int64))
    for name in objective.reads:
        if name != "index" and getattr(one, name) is None:
            raise DataError(f"{type(objective).__name__} {LACKING[name]}")


def everything(rows: Rows, device: torch.device) -> Tensor:
    """The x of all rows, in their order, on the device; on the way 1,024 rows at a time take up memory."""
    x = torch.empty((len(rows), *rows.read(np.arange(1)).x.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), 1024):
        x[start : start + 1024] = rows.read(np.arange(start, min(start + 1024, len(rows)))).x
    return x
