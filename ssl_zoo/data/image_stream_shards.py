"""The shards of a stream of images: which lie at an address, how many images each has, and reading one.

Shards are .tar files in WebDataset form, or MosaicML's (see `mds`), with their indexes.
"""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from ssl_zoo.data import addresses, mds
from ssl_zoo.data.image_shards import list_shard
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.schemes import is_address
from ssl_zoo.data.shelf import File, Shelf, Unpack, digest
from ssl_zoo.data.stream_counts import TOGETHER, Counts
from ssl_zoo.messages import note


class Opened(Protocol):
    """The samples of a shard that is here."""

    def read(self, i: int) -> bytes | Image.Image: ...


class Shards(NamedTuple):
    """rows, sizes: (S,) int64, the images of each shard, and the bytes that it takes here. open: makes of
    shard i, which is at a path, what reads its samples. unpack: see `Shelf`."""

    files: list[File]
    rows: np.ndarray
    sizes: np.ndarray
    open: Callable[[int, Path], Opened]
    unpack: Unpack | None = None


def find(spec: str, image: str | None, shelf: Shelf) -> Shards:
    """The shards at an address (see `ImageStream`).

    shelf: where those are fetched to that have to be counted.

    Raises:
        DataError: there are none, or they are of no known kind.
    """
    if not is_address(spec):
        spec = str(Path(spec).expanduser().absolute())
    if "{" not in spec and not any(c in spec for c in "*?") and not spec.endswith(".tar"):
        index = spec if spec.endswith(".json") else f"{spec.rstrip('/')}/index.json"
        text = addresses.read(index)
        try:
            listed = json.loads(text)
        except ValueError as error:
            raise DataError(f"{index} is no JSON: {error}") from error
        if isinstance(listed, dict) and "shardlist" in listed:
            return _tars(*_listed(listed, index), shelf)
        return _mds(mds.read_index(text, index, index.rpartition("/")[0], image))
    found = addresses.expanded(spec)
    if wrong := [one for one in found if not one.endswith(".tar")]:
        raise DataError(
            f"{wrong[0]} is no shard that a stream reads: .tar files in WebDataset form, or a folder of MDS "
            "shards"
        )
    return _tars([File(one) for one in found], [-1] * len(found), shelf)


def _mds(found: mds.Shards) -> Shards:
    unpack = partial(mds.unpack, found.packed) if found.packed else None
    return Shards(found.files, found.rows, found.sizes, partial(_open_mds, found), unpack)


def _open_mds(found: mds.Shards, i: int, path: Path) -> Opened:
    return mds.Samples(_mapped(path), found.layouts[i], int(found.rows[i]), found.files[i].address)


def _listed(listed: dict[str, Any], index: str) -> tuple[list[File], list[int]]:
    """The shards that WebDataset's index names, and how many samples it says each has; -1 = it does not."""
    try:
        files, rows = [], []
        for one in listed["shardlist"]:
            url = str(one["url"])
            near = is_address(url) or url.startswith("/")
            address = url if near else f"{index.rpartition('/')[0]}/{url}"
            files.append(File(address, int(one.get("filesize", -1))))
            rows.append(int(one.get("nsamples", -1)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{index} is no index of shards: {type(error).__name__}: {error}") from error
    if not files:
        raise DataError(f"{index} lists no shards")
    return files, rows


def _mapped(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class _Members:
    """The images of a .tar. places: (N, 2) int64, first byte and size of each."""

    def __init__(self, data: mmap.mmap, places: np.ndarray):
        self.data, self.places = data, places

    def read(self, i: int) -> bytes:
        start, size = self.places[i].tolist()
        return self.data[start : start + size]


def _tars(files: list[File], rows: list[int], shelf: Shelf) -> Shards:
    """Shards in WebDataset form; those of which nobody tells the number of images are fetched and counted."""
    counts = Counts(shelf.folder)
    told = [n >= 0 and file.size >= 0 for n, file in zip(rows, files, strict=True)]
    unknown = [i for i, known in enumerate(told) if not known and _counted(counts, files[i]) is None]
    if unknown:
        note(
            f"{files[unknown[0]].address}: the images of {len(unknown)} shard{'s' * (len(unknown) > 1)} are "
            "counted, for which each is read once; an index of them (see data.train) spares that"
        )
    with ThreadPoolExecutor(TOGETHER) as threads:
        list(threads.map(lambda i: _count(counts, shelf, files[i].address), unknown))
    known = zip(rows, files, told, strict=True)
    settled = [one for n, file, is_told in known if (one := (n, file) if is_told else _counted(counts, file))]
    numbers = np.array([n for n, _ in settled], np.int64)
    if not numbers.sum():
        raise DataError(f"the {len(files)} shards from {files[0].address} on hold no images")

    sizes = np.array([file.size for _, file in settled], np.int64)
    return Shards([file for _, file in settled], numbers, sizes, partial(_open_tar, settled))


def _open_tar(settled: list[tuple[int, File]], i: int, path: Path) -> Opened:
    n, file = settled[i]
    places = _places(path, file)
    if len(places) != n:
        raise DataError(f"{file.address} holds {len(places)} images, and was listed with {n}")
    return _Members(_mapped(path), places)


def _places(path: Path, file: File) -> np.ndarray:
    """(N, 2) int64: first byte and size of each image of a .tar, which is at a path."""
    left: Counter[str] = Counter()
    try:
        found = [place[1:3] for place in list_shard(path, left)]
    except DataError as error:
        raise DataError(f"{error}".replace(str(path), file.address)) from error
    return np.array(found, np.int64).reshape(-1, 2)


def _counted(counts: Counts, file: File) -> tuple[int, File] | None:
    """The number of images of a shard, and the file with its size and digest; None if nobody has counted."""
    found = counts.of(file)
    if not isinstance(found, list) or len(found) != 3:
        return None
    rows, size, known = found
    return int(rows), File(file.address, int(size), str(known))


def _count(counts: Counts, shelf: Shelf, address: str) -> None:
    file = File(address, addresses.size_of(address))
    with shelf.pinned(file) as path:
        counts.keep(file, [len(_places(path, file)), path.stat().st_size, digest(path)])
