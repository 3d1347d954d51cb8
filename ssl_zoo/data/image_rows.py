"""Rows of an image store, read without the store coming to live in this process's memory.

A page that is read through a mapping counts as the process's own until it is unmapped, so an epoch over a
mapped store ends with all of it resident. Up to `MAPPED` that is borne, because copying from a map is the
fastest way to gather small images; rows of a larger store are read from the file.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_zoo.data.rows import DataError
from ssl_zoo.objectives._base import Batch

MAPPED = 2**28  # bytes


def fingerprint(content: str, index: np.ndarray, y: np.ndarray | None) -> str:
    """Digest of what a source holds, and of the rows and labels (N,) taken from it."""
    digest = hashlib.blake2b(content.encode(), digest_size=16)
    for numbers in (index, y):
        if numbers is not None:
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").data)
    return digest.hexdigest()


class ImageRows:
    """Some images of a store, in a fixed order (see `Rows`).

    Args:
        path: of the store's array, uint8 (M, 3, H, W).
        index: (N,) int64, which of them.
        y: (N,) int64 labels, or None.
        classes: names of the labels; () without labels.
        content: the store's digest.

    Attributes:
        array: the store, memory-mapped. Row i of these rows is `array[index[i]]`.
        nbytes: what all rows take in memory. (Only rows that cost no decoding say so.)
    """

    unit = "images"
    units_per_row = 1

    def __init__(
        self, path: Path, index: np.ndarray, y: np.ndarray | None, classes: tuple[str, ...], content: str
    ):
        self.path, self.index, self.y = path, index, y
        self.classes = classes
        self.fingerprint = fingerprint(content, index, y)
        self._open()

    def _open(self) -> None:
        self.array: np.memmap = np.load(self.path, mmap_mode="r")
        self.nbytes = len(self.index) * self.array[0].nbytes
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The rows `index` (B,): x uint8 (B, 3, H, W), y int64 (B,) or None. `epoch` changes nothing.

        Raises:
            DataError: the store has become shorter.
        """
        index = np.asarray(index, dtype=np.int64)
        where = self.index[index]
        x = np.empty((len(where), *self.array.shape[1:]), dtype=np.uint8)
        if self.array.nbytes <= MAPPED:
            np.take(self.array, where, axis=0, out=x, mode="clip")  # "raise" would copy everything twice
        else:
            self._read_from_file(where, x)
        return Batch(torch.from_numpy(x), None, None if self.y is None else torch.from_numpy(self.y[index]))

    def _read_from_file(self, where: np.ndarray, x: np.ndarray) -> None:
        size = self.array[0].nbytes
        rows = list(x.reshape(len(x), size))
        order = np.argsort(where)  # the disk is read forwards
        starts = self.array.offset + where[order] * size
        for start, row in zip(starts.tolist(), order.tolist(), strict=True):
            if os.preadv(self._file, [rows[row]], start) != size:
                raise DataError(f"the image store {self.path.parent} is damaged: delete that folder")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("array", "_file")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
