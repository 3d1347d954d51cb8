"""Where each image of a source lies, so that any of them can be read alone, still encoded.

For sources too large to decode into a store. Names and places are kept in a few arrays and not in a million
Python objects, which would weigh ten times as much and be copied into every loader process.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ssl_zoo.data.cache import store
from ssl_zoo.data.image_classes import class_index
from ssl_zoo.data.image_decoding import MAX_PIXELS, check_size, read_image
from ssl_zoo.data.image_shards import list_shard
from ssl_zoo.data.rows import NOTHING, DataError, holds_none


class Images(Protocol):
    """Random access to encoded images; it can be pickled."""

    def name(self, i: int) -> str:
        """How errors call image i."""
        ...

    def read(self, i: int, max_pixels: int = MAX_PIXELS) -> bytes:
        """Its bytes; ValueError if they are more than an image of `max_pixels` needs."""
        ...


class Listing(NamedTuple):
    """spec: the source. images: what reads them. labels: (N,) int64, -1 = unlabelled. classes: () where the
    source names none. content: digest of all names, sizes and labels, the same on every machine. sizes: (N,)
    int64, bytes of each encoded image; None where they are not known. left: what was left out, how often."""

    spec: str
    images: Images
    labels: np.ndarray
    classes: tuple[str, ...]
    content: str
    sizes: np.ndarray | None = None
    left: Mapping[str, int] = NOTHING


class Names(NamedTuple):
    """Strings. joined: their bytes, one after the other. ends: (N,) int64, where each ends."""

    joined: np.ndarray
    ends: np.ndarray

    def at(self, i: int) -> str:
        return os.fsdecode(self.joined[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes())


def pack(names: Iterable[str]) -> Names:
    """Strings, such as the paths of files, as two arrays."""
    encoded = [os.fsencode(name) for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    return Names(np.frombuffer(b"".join(encoded), np.uint8), ends)


@dataclass(frozen=True)
class Files:
    """Images that are files below `root`."""

    root: Path
    names: Names

    def name(self, i: int) -> str:
        return str(self.root / self.names.at(i))

    def read(self, i: int, max_pixels: int = MAX_PIXELS) -> bytes:
        return read_image(self.root / self.names.at(i), max_pixels)


@dataclass(frozen=True)
class Members:
    """Images that are members of uncompressed archives. shard, start, size: (N,) int64, in bytes."""

    paths: list[Path]
    names: Names
    shard: np.ndarray
    start: np.ndarray
    size: np.ndarray

    def name(self, i: int) -> str:
        return f"{self.paths[self.shard[i]]}:{self.names.at(i)}"

    def read(self, i: int, max_pixels: int = MAX_PIXELS) -> bytes:
        check_size(int(self.size[i]), max_pixels)
        with open(self.paths[self.shard[i]], "rb", buffering=0) as file:
            file.seek(int(self.start[i]))
            return file.read(int(self.size[i]))


@dataclass(frozen=True)
class Cells:
    """Images that are cells of a Hugging Face data set's column."""

    title: str
    table: Any
    column: str

    def name(self, i: int) -> str:
        return f"{self.title}:{i}"

    def read(self, i: int, max_pixels: int = MAX_PIXELS) -> bytes:
        cell = self.table[i][self.column]
        if cell is None:
            raise ValueError("the cell holds no image")
        return cell["bytes"] if cell["bytes"] is not None else read_image(cell["path"], max_pixels)


def list_folder(
    spec: str, root: Path, names: list[str], sizes: list[int], labels: list[int], classes: tuple[str, ...]
) -> Listing:
    """The image files `names` below `root`, of so many bytes."""
    packed, numbers, in_bytes = pack(names), np.array(labels, np.int64), np.array(sizes, np.int64)
    return Listing(spec, Files(root, packed), numbers, classes, _digest(packed, in_bytes, numbers), in_bytes)


def list_shards(spec: str, paths: list[Path], identity: object, cache: Path) -> Listing:
    """The images in uncompressed archives, whose headers are scanned once and remembered in `cache`.

    Raises:
        DataError: an archive is compressed or damaged, or there is no image.
    """
    if packed := [path for path in paths if path.suffix != ".tar"]:
        raise DataError(
            f"{packed[0]} is compressed, so no image of it can be read without all that come before: unpack "
            "it into a .tar (gunzip) and give that, or set unpack=true to decode the source into a store"
        )
    key = hashlib.blake2b(repr(identity).encode(errors="surrogateescape"), digest_size=12).hexdigest()
    places = store(cache / "listings" / key, f"the places of {spec}", lambda draft: _scan(paths, draft))
    with np.load(places / PLACES) as arrays:
        joined, ends, shard, start, size, labels = (arrays[name] for name in COLUMNS)
        left = Counter(dict(zip(arrays["left"].tolist(), arrays["count"].tolist(), strict=True)))
    if not len(labels):
        raise DataError(holds_none(spec, left))
    names = Names(joined, ends)
    members, content = Members(paths, names, shard, start, size), _digest(names, size, labels)
    return Listing(spec, members, labels, (), content, size, left)


PLACES = "places.npz"
COLUMNS = ("joined", "ends", "shard", "start", "size", "labels")


def _scan(paths: list[Path], folder: Path) -> None:
    left: Counter[str] = Counter()
    found = [(number, *place) for number, path in enumerate(paths) for place in list_shard(path, left)]
    names = pack(name for _, name, *_ in found)
    shard, start, size, labels = (
        np.array([place[k] for place in found], dtype=np.int64) for k in (0, 2, 3, 4)
    )
    columns = dict(zip(COLUMNS, (*names, shard, start, size, labels), strict=True))
    columns |= {"left": np.array(list(left), np.str_), "count": np.array(list(left.values()), np.int64)}
    np.savez(folder / PLACES, **columns)  # pyright: ignore[reportArgumentType]


def list_table(title: str, table: Any, image: str, label: str | None, classes: tuple[str, ...]) -> Listing:
    """The image column of a Hugging Face data set, told apart by its number of rows and its labels."""
    given = [None] * len(table) if label is None else table[label]
    labels = np.array(
        [-1 if y is None else class_index(int(y), f"{title}:{i}") for i, y in enumerate(given)], np.int64
    )
    return Listing(title, Cells(title, table, image), labels, classes, _digest(pack([title]), labels))


def _digest(names: Names, *numbers: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (*names, *numbers):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def count_shared(
    first: Listing, index: np.ndarray, second: Listing, others: np.ndarray, max_bytes: int = 1 << 28
) -> int | None:
    """How many of the images `index` of a listing are, byte for byte, among the images `others` of another.

    Only images of equal size are read; None where these are more than `max_bytes`, or sizes are not known.
    """
    if first.sizes is None or second.sizes is None:
        return None
    ours, theirs = first.sizes[index], second.sizes[others]
    index, others = index[np.isin(ours, theirs)], others[np.isin(theirs, ours)]
    if first.sizes[index].sum() + second.sizes[others].sum() > max_bytes:
        return None
    found = set(_contents(second.images, others))
    return sum(content in found for content in _contents(first.images, index))


def _contents(images: Images, index: np.ndarray) -> Iterator[bytes]:
    """Digests of encoded images; one that cannot be read is left to whoever reads its row."""
    for i in index.tolist():
        with suppress(OSError, ValueError):
            yield hashlib.blake2b(images.read(i), digest_size=16).digest()
