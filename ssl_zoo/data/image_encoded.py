"""Rows of images that stay encoded where they lie, and are decoded each time they are read."""

from __future__ import annotations

import numpy as np
import torch

from ssl_zoo.data.image_decoding import FAST, POLICY, decode, decode_fast
from ssl_zoo.data.image_listing import Listing
from ssl_zoo.data.image_store import fingerprint
from ssl_zoo.data.rows import DataError
from ssl_zoo.objectives._base import Batch


class EncodedRows:
    """Some images of a listing, in a fixed order (see `Rows`); their pixels are those of a store.

    Args:
        listing: where the images lie.
        size: pixels a side.
        max_pixels: an image with more is refused before it is decoded.
        index: (N,) int64, which of them.
        y: (N,) int64 labels, or None.
        classes: names of the labels; () without labels.
        fast: whether they are resized by torch, which gives nearly the same pixels (see `decode_fast`).
    """

    unit = "images"
    units_per_row = 1

    def __init__(
        self,
        listing: Listing,
        size: int,
        max_pixels: int,
        index: np.ndarray,
        y: np.ndarray | None,
        classes: tuple[str, ...],
        fast: bool = False,
    ):
        self.images, self.size, self.max_pixels = listing.images, size, max_pixels
        self.index, self.y = index, y
        self.classes = classes
        self.decode, policy = (decode_fast, FAST) if fast else (decode, POLICY)
        self.fingerprint = fingerprint(f"{listing.content} {size} {policy}", index, y)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The rows `index` (B,): x uint8 (B, 3, size, size), y int64 (B,) or None. `epoch` changes nothing.

        Raises:
            DataError: an image is damaged or gone.
        """
        index = np.asarray(index, dtype=np.int64)
        x = np.empty((len(index), 3, self.size, self.size), dtype=np.uint8)
        for row, i in zip(x, self.index[index].tolist(), strict=True):
            row[:] = self._decode(i)
        return Batch(torch.from_numpy(x), None, None if self.y is None else torch.from_numpy(self.y[index]))

    def name(self, i: int) -> str:
        """The file of row i, or of what else it lies in."""
        return self.images.name(int(self.index[i]))

    def _decode(self, i: int) -> np.ndarray:
        try:
            return self.decode(self.images.read(i, self.max_pixels), self.size, self.max_pixels)
        except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error, ...
            raise DataError(
                f"{self.images.name(i)}: {error} (repair or remove it; or unpack=true with "
                "on_bad_sample=skip, which decodes all images once and leaves such ones out)"
            ) from error
