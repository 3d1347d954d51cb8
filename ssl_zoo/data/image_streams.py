"""Images that stay where they are, in shards at any address, and are fetched while a run reads them.

For sets that neither the disk nor the memory holds: only the shards of the window that is read, and of the
next, are here (see `shelf`), and of a shard no more is kept than where its samples lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from ssl_zoo.backbones._base import Modality
from ssl_zoo.data.image_decoding import FAST, MAX_PIXELS, check_size, decode_fast
from ssl_zoo.data.image_stream_shards import Opened, Shards, find
from ssl_zoo.data.image_undecoded import Encoded, Undecoded, damaged, decodes
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.shelf import Shelf
from ssl_zoo.data.streams import ShardRows, Stream
from ssl_zoo.objectives._base import Batch


class ImageStream(Stream):
    """Images for pretraining in shards at addresses; labels that they may have are not read.

    Args:
        name, validation, window, validation_fraction, split_seed, limit, cache: see `Stream`.
        train: the address of a folder of MDS shards or of its index.json; of WebDataset shards (.tar), with
            {000..127} or, where the protocol lists files, with * (`https://host/train-{000..127}.tar`); or
            of an index of these ({"shardlist": [{"url": ..., "nsamples": ...}]}). Paths are addresses too.
        image_size: pixels a side.
        image: the column of MDS shards that holds the images; None = the only one of images.
        max_pixels: an image with more is refused before it is decoded.
        reducing_gap: a JPEG is decoded at a half, a quarter or an eighth of its sides where the shorter one
            still has so many times image_size; None: in full.
        decode: "cpu", or "cuda": JPEGs that are pretrained on are decoded by the GPU that trains (nvJPEG), in
            full, whatever reducing_gap says; nearly the same pixels.

    Raises:
        DataError: an argument is out of range, or there is no such GPU. `rows` raises more, later.
    """

    modality: ClassVar[Modality] = "image"

    def __init__(
        self,
        name: str,
        train: str,
        validation: str | None = None,
        *,
        image_size: int,
        window: int = 16384,
        validation_fraction: float = 0.01,
        split_seed: int = 0,
        image: str | None = None,
        limit: float = 64.0,
        max_pixels: int = MAX_PIXELS,
        reducing_gap: float | None = 2.0,
        decode: str = "cpu",
        cache: str | None = None,
    ):
        super().__init__(name, train, validation, window, validation_fraction, split_seed, limit, cache)
        for key, value in (("image_size", image_size), ("max_pixels", max_pixels)):
            if type(value) is not int or value < 1:
                raise DataError(f"{name}: {key} is a whole number from 1, not {value!r}")
        if reducing_gap is not None and not reducing_gap >= 1:
            raise DataError(f"{name}: reducing_gap is a number from 1, or null, not {reducing_gap!r}")
        if decode not in ("cpu", "cuda"):
            raise DataError(f"{name}: decode is cpu or cuda, not {decode!r}")
        if decode == "cuda" and not torch.cuda.is_available():
            raise DataError(f"{name}: decode=cuda, and no CUDA device is here: take data.decode=cpu")
        if decode == "cuda" and not decodes():
            raise DataError(f"{name}: decode=cuda, but torchvision has no decoders: take data.decode=cpu")
        self.image_size, self.max_pixels, self.gap = image_size, max_pixels, reducing_gap
        self.image, self.decode = image, decode

    def rows(self, split: str) -> StreamRows:
        """The rows of "train" or "validation". "pretrain" are those of train, decoded where `decode` says.

        Raises:
            DataError: no such split, or its shards cannot be listed, or one window of them is more than the
                limit.
        """
        late = split == "pretrain" and self.decode == "cuda"
        split = "train" if split == "pretrain" else split
        if split not in self.splits():
            raise DataError(
                f"{self.name} has no {split!r} split, only {', '.join(self.splits())}; a stream is for "
                "pretraining, and labelled sets are read with data=image_folder"
            )
        if split == "validation" and self.validation:
            shards = find(self.validation, self.image, self.shelf())
            return self._rows(shards, np.arange(len(shards.files)))
        return self._rows(self._shards, self._parted[split], late)

    def labelled(self, split: str) -> Rows:
        """Always raises DataError: the labels of a stream are not read."""
        raise DataError(
            f"{self.name}: a stream of images is for pretraining, and its labels are not read. Measure with "
            "a labelled set that is kept here: data=image_folder data.train=PATH, with shards too"
        )

    @cached_property
    def _shards(self) -> Shards:
        return find(self.train, self.image, self.shelf())

    @cached_property
    def _parted(self) -> dict[str, np.ndarray]:
        return self.parted(len(self._shards.files))

    def _rows(self, shards: Shards, index: np.ndarray, late: bool = False) -> StreamRows:
        shelf = self.shelf(shards.unpack)
        return StreamRows(shards, index, shelf, self.window, self.image_size, self.max_pixels, self.gap, late)


class StreamRows(ShardRows[Opened]):
    """Images of shards, decoded whenever they are read (see `Rows`).

    Args:
        shards: all of the stream. index: (S,) int64, which of them.
        shelf, window: see `ShardRows`. size: pixels a side. max_pixels, gap: see `decode_fast`.
        late: whether images are decoded when a batch is sent to its device (see `Undecoded`).

    Errors are those of `ShardRows`.
    """

    unit, units_per_row, classes, y = "images", 1, (), None

    def __init__(
        self,
        shards: Shards,
        index: np.ndarray,
        shelf: Shelf,
        window: int,
        size: int,
        max_pixels: int,
        gap: float | None = None,
        late: bool = False,
    ):
        files = [shards.files[i] for i in index.tolist()]
        super().__init__(files, shards.rows[index], shards.sizes[index], shelf, window)
        self.shards, self.index = shards, index
        self.size, self.max_pixels, self.gap, self.late = size, max_pixels, gap, late
        names = [(file.address.rpartition("/")[2], file.size, file.digest) for file in files]
        about = (FAST, size, "late" if late else gap, window, names, self.windows.sizes.tolist())
        self.fingerprint = hashlib.blake2b(repr(about).encode(), digest_size=16).hexdigest()

    def open(self, number: int) -> Opened:
        with self.shelf.pinned(self.files[number]) as path:
            return self.shards.open(int(self.index[number]), path)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The rows `index` (B,): x uint8 (B, 3, size, size), or what becomes that on its device. `epoch`
        changes nothing.

        Raises:
            DataError: a shard cannot be fetched, or an image is damaged.
        """
        index = np.asarray(index, np.int64)
        if self.late:
            encoded = dict(self._encoded(index))
            images = [encoded[at] for at in range(len(index))]
            return Batch(Undecoded(images, self.size, self.max_pixels))  # pyright: ignore[reportArgumentType]
        x = np.empty((len(index), 3, self.size, self.size), np.uint8)
        for at, image in self._encoded(index):
            x[at] = self._decode(image)
        return Batch(torch.from_numpy(x))

    def _encoded(self, index: np.ndarray) -> Iterator[tuple[int, Encoded]]:
        """Place in the batch and image, one shard after the other: a batch may be of more than are open."""
        shard = self.shards_of(index)
        for at in np.argsort(shard, kind="stable").tolist():
            number = int(shard[at])
            yield at, self._read(number, int(index[at] - self.windows.starts[number]))

    def _read(self, number: int, i: int) -> Encoded:
        opened = self.opened(number)
        where = f"{self.files[number].address}, image {i}"
        with damaged(where):
            return Encoded(opened.read(i), where)

    def _decode(self, image: Encoded) -> np.ndarray:
        with damaged(image.where):
            if isinstance(image.data, bytes):
                check_size(len(image.data), self.max_pixels)
            return decode_fast(image.data, self.size, self.max_pixels, self.gap)
