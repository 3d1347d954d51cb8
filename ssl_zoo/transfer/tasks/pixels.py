"""Images with a class number for each pixel, as rows: read whole, stretched to a square."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ssl_zoo.data.items import Item, fingerprint
from ssl_zoo.data.masks import UNKNOWN, read_image, read_mask
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.tasks.goal import IGNORED


class Pixels:
    """x (B, 3, side, side) uint8, y (B, side, side) int64, `IGNORED` where nobody knows the class.

    Args:
        items: whose inputs and targets are paths of images and masks; without masks y is `IGNORED`.
        number: from the numbers in masks to those of the classes.
    """

    def __init__(self, items: Sequence[Item], side: int, number: Mapping[int, int]):
        self.items, self.side = items, side
        self.table = np.full(256, IGNORED, np.int64)
        for value, one in number.items():
            if value != UNKNOWN:
                self.table[value] = one
        self.fingerprint = fingerprint(
            [side, sorted(number.items()), [(i.file, str(i.target)) for i in items]]
        )

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        some = [self.items[i] for i in index.tolist()]
        x = np.stack([read_image(item.input, self.side) for item in some])
        y = np.full((len(some), self.side, self.side), IGNORED, np.int64)
        for at, item in enumerate(some):
            if item.target is not None:
                y[at] = self.table[read_mask(item.target, self.side)]
        return Batch(torch.from_numpy(x), None, torch.from_numpy(y))

    def truth(self, i: int) -> np.ndarray | None:
        """The classes (H, W) at the size of the image."""
        mask = self.items[i].target
        return None if mask is None else self.table[read_mask(mask)]
