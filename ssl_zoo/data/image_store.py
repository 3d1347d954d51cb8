"""The image store: a source, decoded once into one memory-mapped uint8 array (N, 3, H, W).

    <cache>/images/<key>/{images.npy, labels.npy, digests.npy, meta.json}

The key follows from the source's names, sizes and times, and from how it is decoded; so an edited
source is built anew. The store is whole or absent, and checked when it is opened (see cache.py). Memory
stays flat, however many images there are.

A large store does not fill the memory of the process that reads it either. A page that is read through a
mapping counts as the process's own until it is unmapped, so after an epoch all of a mapped store is in
memory. A store of up to `MAPPED` bytes is mapped all the same, because copying from a map is the fastest way
to gather small images. Rows of a larger store are read from the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ssl_zoo.data import cache
from ssl_zoo.data.image_decoding import POLICY, decode
from ssl_zoo.data.image_samples import Sample, Samples, Source
from ssl_zoo.data.rows import DataError, holds_none, left_out
from ssl_zoo.messages import note
from ssl_zoo.objectives._base import Batch
from ssl_zoo.portable import open_to_read, read_at

CHUNK = 64  # images that a thread decodes at a time
MAPPED = 2**28  # bytes of a store that is read through a mapping
HELD = 1 << 28  # bytes of encoded images that may wait to be decoded


@dataclass(frozen=True)
class Decoding:
    """image_size: pixels a side. on_bad_sample: whether a damaged image stops the decoding ("raise") or is
    left out ("skip"). max_pixels: an image with more is refused."""

    image_size: int
    on_bad_sample: Literal["raise", "skip"]
    max_pixels: int


class Store(NamedTuple):
    """images: where the array lies. labels: (N,) int64, -1 = unlabelled. classes: () where the source
    names none. content: digest of all pixels and labels, the same on every machine. digests: (N,) uint64, of
    the pixels of each image."""

    spec: str
    images: Path
    labels: np.ndarray
    classes: tuple[str, ...]
    content: str
    digests: np.ndarray


def open_store(source: Source, decoding: Decoding, folder: Path) -> Store:
    """The store of a source in the cache `folder`, built now where it is not there yet or damaged.

    Raises:
        DataError: an image is damaged (or, with "skip", more than 1 % are), or there is none.
    """
    described = repr((source.identity, asdict(decoding), POLICY)).encode(errors="surrogateescape")
    place = folder / "images" / hashlib.blake2b(described, digest_size=12).hexdigest()
    needed = (source.count or 0) * 3 * decoding.image_size**2
    title = f"{source.spec} at {decoding.image_size} pixels a side"
    cache.store(place, title, partial(_build, source, decoding), needed)
    meta = json.loads((place / "meta.json").read_text())
    left = {**source.left, **meta["left_out"]}
    if skipped := len(meta["skipped"]):
        left["damaged"] = skipped
    left_out(source.spec, left)
    labels, digests = np.load(place / "labels.npy"), np.load(place / "digests.npy")
    return Store(source.spec, place / "images.npy", labels, tuple(meta["classes"]), meta["content"], digests)


def _build(source: Source, decoding: Decoding, folder: Path) -> None:
    start = time.monotonic()
    count = _write(source, source.open(decoding.max_pixels), decoding, folder)
    note(f"{source.spec}: {count:,} images in {time.monotonic() - start:.1f} s")


def _write(source: Source, samples: Samples, decoding: Decoding, folder: Path) -> int:
    """Decode a source into `folder`; returns how many images were written."""
    labels, digests, content = array("q"), array("Q"), hashlib.blake2b(digest_size=16)
    bad: list[str] = []
    lost: set[int] = set()
    read = partial(_read, decoding=decoding)
    threads = min(8, os.cpu_count() or 1)  # Pillow decodes without holding Python's lock
    with (
        open(folder / "images.npy", "wb") as file,
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=samples.total, unit=" images", desc=source.spec, disable=None) as bar,
    ):
        _header(file, 0, decoding.image_size)
        for good, images, marks, errors, ill in _in_order(pool, read, _chunks(samples.stream), 2 * threads):
            bad += errors
            lost.update(ill)
            if errors and decoding.on_bad_sample == "raise":
                raise DataError(f"{errors[0]} (on_bad_sample=skip leaves such images out)")
            pixels = images.tobytes()
            file.write(pixels)
            content.update(pixels)
            labels.extend(good)
            digests.extend(marks)
            bar.update(len(good) + len(errors))
        total = len(labels) + len(bad)
        if not total:
            raise DataError(holds_none(source.spec, samples.left))
        if len(bad) > 0.01 * total:
            raise DataError(
                f"{len(bad)} of the {total} images of {source.spec!r} are damaged, more than the 1 % that "
                f"on_bad_sample=skip bears; the first is {bad[0]}"
            )
        if lost := lost - {-1} - set(labels):
            names = samples.classes or range(max(lost) + 1)
            raise DataError(
                f"all images of the class {names[min(lost)]!r} of {source.spec!r} are damaged; the first "
                f"damaged image is {bad[0]}"
            )
        _header(file, len(labels), decoding.image_size)
    array_of_labels = np.array(labels, dtype="<i8")
    content.update(array_of_labels.tobytes())
    meta = {
        "source": source.spec,
        "classes": samples.classes,
        "content": content.hexdigest(),
        "skipped": bad,
        "left_out": dict(samples.left),
        "policy": POLICY,
        **asdict(decoding),
    }
    np.save(folder / "labels.npy", array_of_labels)
    np.save(folder / "digests.npy", np.array(digests, dtype="<u8"))
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))
    return len(labels)


class Chunk(NamedTuple):
    """images: (n, 3, size, size) uint8, with their labels and digests. errors: what is wrong with each
    damaged image. lost: the labels of these."""

    labels: list[int]
    images: np.ndarray
    digests: list[int]
    errors: list[str]
    lost: list[int]


def _read(samples: list[Sample], decoding: Decoding) -> Chunk:
    labels, images, errors, lost, size = [], [], [], [], decoding.image_size
    for sample in samples:
        try:
            images.append(decode(sample.image, size, decoding.max_pixels))
            labels.append(sample.label)
        except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error, ...
            errors.append(f"{sample.name}: {error}")
            lost.append(sample.label)
    pixels = np.array(images, dtype=np.uint8).reshape(-1, 3, size, size)
    digests = [
        int.from_bytes(hashlib.blake2b(image.data, digest_size=8).digest(), "little") for image in pixels
    ]
    return Chunk(labels, pixels, digests, errors, lost)


def _chunks(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """At most `CHUNK` samples each; fewer where they are large."""
    chunk, weight = [], 0
    for sample in samples:
        chunk.append(sample)
        weight += _weight(sample)
        if len(chunk) == CHUNK or weight > HELD // 16:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


def _weight(sample: Sample) -> int:
    """About how many bytes a sample holds before it is decoded."""
    if isinstance(sample.image, bytes):
        return len(sample.image)
    return 0 if isinstance(sample.image, Path) else 3 * sample.image.width * sample.image.height


def _in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[list[Sample]], Chunk],
    items: Iterable[list[Sample]],
    ahead: int,
) -> Iterator[Chunk]:
    """`pool.map` that reads no more than `ahead` items and `HELD` bytes in advance."""
    pending: deque[tuple[int, Future[Chunk]]] = deque()
    held = 0
    for item in items:
        weight = sum(map(_weight, item))
        pending.append((weight, pool.submit(function, item)))
        held += weight
        while pending and (len(pending) >= ahead or held > HELD):
            weight, first = pending.popleft()
            yield first.result()
            held -= weight
    for _, last in pending:
        yield last.result()


def _header(file: BinaryIO, count: int, size: int) -> None:
    """(Re)write the start of a .npy file. NumPy pads it so that a first axis can grow in place."""
    file.seek(0)
    shape = (count, 3, size, size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


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
        self._file = open_to_read(self.path)
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
            if read_at(self._file, rows[row], start) != size:
                raise DataError(f"the image store {self.path.parent} is damaged: delete that folder")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("array", "_file")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
