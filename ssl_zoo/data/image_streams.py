"""Images that stay where they are, in shards at any address, and are fetched while a run reads them.

For sets that neither the disk nor the memory holds: only the shards of the window that is read, and of the
next, are here (see `shelf`), and of a shard no more is kept than where its samples lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from ssl_zoo.backbones._base import Modality
from ssl_zoo.data.cache import root
from ssl_zoo.data.image_decoding import FAST, MAX_PIXELS, check_size, decode_fast
from ssl_zoo.data.image_stream_shards import Opened, Shards, find
from ssl_zoo.data.image_undecoded import Encoded, Undecoded, damaged, decodes
from ssl_zoo.data.permutation import permuted
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.shelf import ROOM, File, Shelf
from ssl_zoo.data.windows import Windows
from ssl_zoo.messages import note
from ssl_zoo.objectives._base import Batch

GIB = 1 << 30


class ImageStream:
    """Images for pretraining in shards at addresses; labels that they may have are not read.

    Args:
        name: what logs and errors call it.
        train: the address of a folder of MDS shards or of its index.json; of WebDataset shards (.tar), with
            {000..127} or, where the protocol lists files, with * (`https://host/train-{000..127}.tar`); or
            of an index of these ({"shardlist": [{"url": ..., "nsamples": ...}]}). Paths are addresses too.
        validation: the same, or None: shards are held out of `train`.
        image_size: pixels a side.
        window: rows that are shuffled among each other; their shards have to fit below the limit, and stay
            open while they are read.
        validation_fraction: of the shards, which are drawn by `split_seed`; 0 = no such split.
        image: the column of MDS shards that holds the images; None = the only one of images.
        limit: GiB of shards on the disk at most.
        max_pixels: an image with more is refused before it is decoded.
        reducing_gap: a JPEG is decoded at a half, a quarter or an eighth of its sides where the shorter one
            still has so many times image_size; None: in full.
        decode: "cpu", or "cuda": JPEGs that are pretrained on are decoded by the GPU that trains (nvJPEG), in
            full, whatever reducing_gap says; nearly the same pixels.
        cache: folder of the shards; else the environment's SSL_ZOO_CACHE, else ~/.cache/ssl_zoo.

    Raises:
        DataError: an argument is out of range, or there is no such GPU. `rows` raises more, later.
    """

    modality: ClassVar[Modality] = "image"
    classes: ClassVar[tuple[str, ...]] = ()

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
        for key, value in (("image_size", image_size), ("window", window), ("max_pixels", max_pixels)):
            if type(value) is not int or value < 1:
                raise DataError(f"{name}: {key} is a whole number from 1, not {value!r}")
        if not limit > 0:
            raise DataError(f"{name}: limit is a number of GiB above 0, not {limit!r}")
        if not 0 <= validation_fraction < 1:
            raise DataError(f"{name}: validation_fraction is from 0 to below 1, not {validation_fraction!r}")
        if reducing_gap is not None and not reducing_gap >= 1:
            raise DataError(f"{name}: reducing_gap is a number from 1, or null, not {reducing_gap!r}")
        if decode not in ("cpu", "cuda"):
            raise DataError(f"{name}: decode is cpu or cuda, not {decode!r}")
        if decode == "cuda" and not torch.cuda.is_available():
            raise DataError(f"{name}: decode=cuda, and no CUDA device is here: take data.decode=cpu")
        if decode == "cuda" and not decodes():
            raise DataError(f"{name}: decode=cuda, but torchvision has no decoders: take data.decode=cpu")
        if not train:
            raise DataError(f"{name}: train names no shards: give their address")
        self.name, self.image_size, self.window, self.max_pixels = name, image_size, window, max_pixels
        self.train, self.validation, self.gap = train, validation, reducing_gap
        self.fraction, self.seed = 0.0 if validation else validation_fraction, split_seed
        self.image, self.limit, self.cache = image, int(limit * GIB), root(cache)
        self.decode = decode

    def splits(self) -> tuple[str, ...]:
        """Which of train and validation there are. "pretrain" is train."""
        return ("train", "validation") if self.validation or self.fraction else ("train",)

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
            shards = find(self.validation, self.image, self._shelf)
            return self._rows(shards, np.arange(len(shards.files)))
        return self._rows(self._shards, self._parted[split], late)

    def labelled(self, split: str) -> Rows:
        """Always raises DataError: the labels of a stream are not read."""
        raise DataError(
            f"{self.name}: a stream of images is for pretraining, and its labels are not read. Measure with "
            "a labelled set that is kept here: data=image_folder data.train=PATH, with shards too"
        )

    @property
    def _shelf(self) -> Shelf:
        return Shelf(self.cache / ROOM, self.limit)

    @cached_property
    def _shards(self) -> Shards:
        return find(self.train, self.image, self._shelf)

    @cached_property
    def _parted(self) -> dict[str, np.ndarray]:
        """The shards of each split, in their order."""
        count = len(self._shards.files)
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

    def _rows(self, shards: Shards, index: np.ndarray, late: bool = False) -> StreamRows:
        shelf = Shelf(self.cache / ROOM, self.limit, shards.unpack)
        size, most = self.image_size, self.max_pixels
        return StreamRows(shards, index, shelf, self.window, size, most, self.gap, late)


class StreamRows:
    """Images of shards, decoded whenever they are read (see `Rows`).

    Args:
        shards: all of the stream. index: (S,) int64, which of them.
        shelf: what has them here.
        window: see `Windows`. size: pixels a side. max_pixels, gap: see `decode_fast`.
        late: whether images are decoded when a batch is sent to its device (see `Undecoded`).

    Attributes:
        windows: the order in which training reads them.

    Raises:
        DataError: one window of them is more than the shelf holds.
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
        self.shards, self.index, self.shelf = shards, index, shelf
        self.size, self.max_pixels, self.gap, self.late = size, max_pixels, gap, late
        self.windows = Windows(shards.rows[index], window)
        files = [shards.files[i] for i in index.tolist()]
        names = [(file.address.rpartition("/")[2], file.size, file.digest) for file in files]
        about = (FAST, size, "late" if late else gap, window, names, self.windows.sizes.tolist())
        self.fingerprint = hashlib.blake2b(repr(about).encode(), digest_size=16).hexdigest()
        self._opened: OrderedDict[int, Opened] = OrderedDict()
        self._coming: _Ahead | None = None
        spans = min(-(-window // max(1, int(self.windows.sizes.mean()))) + 1, len(index))
        self.open_at_most = 2 * spans
        self.ahead = self._ahead(shards.sizes[index], window, spans)

    def _ahead(self, sizes: np.ndarray, window: int, spans: int) -> bool:
        """Whether the shards of two windows fit on the shelf, so that those of the next are fetched early."""
        file = self.shards.files[int(self.index[0])]
        if self.shelf.place(file).parent != self.shelf.folder:
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
        shard = np.searchsorted(self.windows.starts, index, side="right") - 1
        for at in np.argsort(shard, kind="stable").tolist():
            number = int(shard[at])
            yield at, self._read(number, int(index[at] - self.windows.starts[number]))

    def prepare(self, shards: np.ndarray) -> None:
        """Be told which shards will be read from now on: they are fetched in a thread, and others are closed.

        What goes wrong is left to whoever reads them.
        """
        for number in self._opened.keys() - set(shards.tolist()):
            del self._opened[number]
        if self.ahead:
            if self._coming is None or self._coming.process != os.getpid():  # threads stay behind in a fork
                self._coming = _Ahead()
            self._coming.fetch(self.shelf, [self.shards.files[self.index[i]] for i in shards.tolist()])

    def _read(self, number: int, i: int) -> Encoded:
        opened = self._open(number)
        where = f"{self.shards.files[self.index[number]].address}, image {i}"
        with damaged(where):
            return Encoded(opened.read(i), where)

    def _decode(self, image: Encoded) -> np.ndarray:
        with damaged(image.where):
            if isinstance(image.data, bytes):
                check_size(len(image.data), self.max_pixels)
            return decode_fast(image.data, self.size, self.max_pixels, self.gap)

    def _open(self, number: int) -> Opened:
        if number in self._opened:
            self._opened.move_to_end(number)
            return self._opened[number]
        shard = int(self.index[number])
        file = self.shards.files[shard]
        try:
            with self.shelf.pinned(file) as path:
                self._opened[number] = self.shards.open(shard, path)
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file.address} cannot be read: {error}") from error
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
