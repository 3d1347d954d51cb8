"""Where each image of a source lies, so that any of them can be read alone, still encoded.

For sources too large to decode into a store. Names and places are kept in a few arrays and not in a million
Python objects, which would weigh ten times as much and be copied into every loader process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ssl_zoo.data.cache import store
from ssl_zoo.data.image_shards import list_shard
from ssl_zoo.data.rows import DataError


class Images(Protocol):
    """Random access to encoded images; it can be pickled."""

    def name(self, i: int) -> str:
        """How errors call image i."""
        ...

    def read(self, i: int) -> bytes: ...


class Listing(NamedTuple):
    """labels: (N,) int64, -1 = unlabelled. classes: () where the source names none. content: digest of all
    names, sizes and labels, the same on every machine."""

    spec: str
    images: Images
    labels: np.ndarray
    classes: tuple[str, ...]
    content: str


class Names(NamedTuple):
    """Strings. joined: their bytes, one after the other. ends: (N,) int64, where each ends."""

    joined: np.ndarray
    ends: np.ndarray

    def at(self, i: int) -> str:
        return os.fsdecode(self.joined[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes())


def pack(names: Iterable[str]) -> Names:
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

    def read(self, i: int) -> bytes:
        return (self.root / self.names.at(i)).read_bytes()


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

    def read(self, i: int) -> bytes:
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

    def read(self, i: int) -> bytes:
        cell = self.table[i][self.column]
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


def list_folder(
    spec: str, root: Path, names: list[str], sizes: list[int], labels: list[int], classes: tuple[str, ...]
) -> Listing:
    """The image files `names` below `root`, of so many bytes."""
    packed, numbers = pack(names), np.array(labels, np.int64)
    content = _digest(packed, np.array(sizes, np.int64), numbers)
    return Listing(spec, Files(root, packed), numbers, classes, content)


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
    if not len(labels):
        raise DataError(f"{spec!r} holds no images")
    names = Names(joined, ends)
    return Listing(spec, Members(paths, names, shard, start, size), labels, (), _digest(names, size, labels))


PLACES = "places.npz"
COLUMNS = ("joined", "ends", "shard", "start", "size", "labels")


def _scan(paths: list[Path], folder: Path) -> None:
    found = [(number, *place) for number, path in enumerate(paths) for place in list_shard(path)]
    names = pack(name for _, name, *_ in found)
    shard, start, size, labels = (
        np.array([place[k] for place in found], dtype=np.int64) for k in (0, 2, 3, 4)
    )
    columns = dict(zip(COLUMNS, (*names, shard, start, size, labels), strict=True))
    np.savez(folder / PLACES, **columns)  # pyright: ignore[reportArgumentType]


def list_table(title: str, table: Any, image: str, label: str | None, classes: tuple[str, ...]) -> Listing:
    """The image column of a Hugging Face data set, told apart by its number of rows and its labels."""
    given = [-1] * len(table) if label is None else [-1 if y is None else int(y) for y in table[label]]
    labels = np.array(given, np.int64)
    return Listing(title, Cells(title, table, image), labels, classes, _digest(pack([title]), labels))


def _digest(names: Names, *numbers: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (*names, *numbers):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
