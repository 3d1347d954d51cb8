"""Samples whose targets are not one class a row: what each is, where it is from, and what is true of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ssl_zoo.data.image_decoding import decode
from ssl_zoo.data.rows import DataError
from ssl_zoo.objectives._base import Batch


class Item(NamedTuple):
    """file: that it was read from. row: its number in that file, None where that holds nothing else.
    input: a text, the words of a sentence, or an image, encoded or by its path. target: what is true of it,
    as its task says it; None where nobody knows."""

    file: str
    row: int | None
    input: Any
    target: Any = None

    @property
    def where(self) -> str:
        """The place, as an error names it."""
        return self.file if self.row is None else f"{self.file}, row {self.row}"


class ImageList:
    """Images, decoded whenever they are read: x (B, 3, SIZE, SIZE) uint8.

    Args:
        images: encoded ones, or their paths. names: what errors call them.
    """

    unit, units_per_row, classes, y = "images", 1, (), None

    def __init__(self, images: Sequence[bytes | Path], names: Sequence[str], size: int):
        self.images, self.names, self.size = images, names, size
        self.fingerprint = fingerprint([size, *map(str, names)])

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The images at `index` (B,). Raises DataError that names one that is damaged."""
        return Batch(torch.from_numpy(np.stack([self._one(int(i)) for i in index])))

    def _one(self, i: int) -> np.ndarray:
        return guarded(self.names[i], lambda: decode(self.images[i], self.size))


def guarded(name: str, read: Callable[[], Any]) -> Any:
    """What `read` gives. Raises DataError, with the name of the image, for whatever ails it."""
    try:
        return read()
    except Exception as error:  # Pillow raises many kinds
        raise DataError(f"the image {name} cannot be read: {error}") from error


def fingerprint(values: Iterable[Any]) -> str:
    """Sixteen hexadecimal digits that change with any of the values."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(repr(value).encode("utf-8", "backslashreplace") + b"\0")
    return digest.hexdigest()[:16]


def carve(
    items: Sequence[Item], fraction: float, traits: Callable[[Item], Iterable[Any]], seed: int = 0
) -> tuple[list[Item], list[Item], int]:
    """The items that stay, those that are held out, and how many were put back.

    Args:
        fraction: of the items that is held out, drawn by the seed; one at least, unless it is 0.
        traits: what a target consists of. An item with one that nothing else would have is put back.

    Raises:
        DataError: nothing would stay, or nothing could be held out.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"a fraction of {fraction} cannot be held out: take 0 or more, and less than 1")
    count = max(1, round(fraction * len(items))) if fraction else 0
    order = np.random.default_rng(seed).permutation(len(items)).tolist()
    left = {trait for i in order[count:] for trait in traits(items[i])}
    out: list[int] = []
    for i in order[:count]:
        if new := set(traits(items[i])) - left:
            left |= new
        else:
            out.append(i)
    if count and (not out or len(out) == len(items)):
        raise DataError(
            f"{len(items)} samples cannot be parted into train and others: give more, or a folder with "
            "a train and a validation part"
        )
    held = set(out)
    stay = [one for i, one in enumerate(items) if i not in held]
    return stay, [items[i] for i in sorted(held)], count - len(out)
