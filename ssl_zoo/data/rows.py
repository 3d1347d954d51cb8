"""Rows: what pretraining and transfer read from, images and text alike, and what is said of absent ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.memory import Memory
from ssl_zoo.messages import note
from ssl_zoo.objectives._base import LACKING, Batch, Objective

NOTHING: Mapping[str, int] = MappingProxyType({})


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
    """Raise DataError if the rows lack what the objective reads, or are not as many as it remembers."""
    for module in objective.modules():
        if isinstance(module, Memory) and len(module.rows) != len(rows):
            raise DataError(
                f"{type(objective).__name__} remembers {len(module.rows):,} rows, and the data has "
                f"{len(rows):,}: set objective.rows={len(rows)}"
            )
    asked = [name for name in objective.reads if name not in ("x", "index")]
    one = rows.read(np.zeros(1, np.int64)) if asked else None
    for name in asked:
        if getattr(one, name) is None:
            raise DataError(f"{type(objective).__name__} {LACKING[name]}")


def everything(rows: Rows, device: torch.device) -> Tensor:
    """The x (N, ...) uint8 of all rows in their order, on the device. The host holds 1,024 rows at a time."""
    x = torch.empty((len(rows), *rows.read(np.arange(1)).x.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), 1024):
        x[start : start + 1024] = rows.read(np.arange(start, min(start + 1024, len(rows)))).x
    return x


# What is said of a path that is not there (most often the data folder is not named), and of what is left out


def absent(what: str, spec: str, path: Path) -> str:
    """The message for `what` ("images", "text") wanted from `spec`, whose `path` does not exist."""
    missing = next((p for p in [*reversed(path.parents), path] if not p.exists()), path)
    data = os.environ.get("SSL_ZOO_DATA")
    if data and path.is_relative_to(data):
        hint = f"SSL_ZOO_DATA is {data}: set SSL_ZOO_DATA to the folder that holds the data sets"
    else:
        hint = "if it belongs to the data folder, set SSL_ZOO_DATA to that folder; else correct the path"
    return f"no {what} at {spec!r}: {str(missing)!r} does not exist ({hint})"


def counted(left: Mapping[str, int]) -> str:
    """What was left out and how often, the most frequent first: "8 .heic, 2 broken links"."""
    most_first = sorted(left.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {what}" for what, count in most_first[:12]]
    if rest := sum(count for _, count in most_first[12:]):
        shown.append(f"{rest:,} others")
    return ", ".join(shown)


def left_out(spec: str, left: Mapping[str, int]) -> None:
    """Say what was left out of a source, if anything was."""
    if left:
        note(f"{spec}: left out {counted(left)}")


def holds_none(spec: str, left: Mapping[str, int]) -> str:
    """The message for a source without any image."""
    return f"{spec!r} holds no images" + (f", only {counted(left)}" if left else "")
