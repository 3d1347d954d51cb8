"""Shards of MosaicML's streaming library (MDS, version 2): their index, and the images in them.

A shard is a number of samples N, N + 1 offsets (all uint32, little endian), a description, and the samples.
A sample is the sizes (uint32) of those of its columns that have no fixed one, and then its columns, sorted by
name. The index, `index.json`, says of each shard its name, size, digests, columns and number of samples.
"""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssl_zoo.data.cache import WRITING
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.shelf import File
from ssl_zoo.data.zstandard import open_zstd

ENCODED = ("jpeg", "png", "jpegarray", "jpeg_array", "bytes")  # encodings whose bytes are an image's file
PACKED: dict[str, Callable[..., Any]] = {"gz": gzip.open, "bz2": bz2.open, "zstd": open_zstd}


class Layout(NamedTuple):
    """How the samples of a shard are laid out.

    Attributes:
        image: the number of the column of images among all.
        encoding: of that column.
        sizes: bytes of each column; None where a sample says it.
    """

    image: int
    encoding: str
    sizes: tuple[int | None, ...]


class Shards(NamedTuple):
    """What an index says of each shard. rows, sizes: (S,) int64, its samples, and its bytes once unpacked.
    packed: "" or what with."""

    files: list[File]
    rows: np.ndarray
    sizes: np.ndarray
    layouts: list[Layout]
    packed: str


def read_index(text: bytes, address: str, folder: str, image: str | None = None) -> Shards:
    """The shards that an index lists.

    Args:
        text: the bytes of index.json. address: its address, for errors.
        folder: the address that names of shards are under.
        image: the column of images; None = the only one whose encoding is an image's.

    Raises:
        DataError: it is no index, of another version, packed in a way that is not read, or without images.
    """
    try:
        listed = json.loads(text)["shards"]
        found = [_shard(one, folder, image, f"{address}, shard {i}") for i, one in enumerate(listed)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{address} is no index of MDS shards: {type(error).__name__}: {error}") from error
    if not found:
        raise DataError(f"{address} lists no shards")
    packed = {one[4] for one in found}
    if len(packed) > 1:
        raise DataError(f"{address}: its shards are packed in several ways: {', '.join(sorted(packed))}")
    rows, sizes = (np.array([one[k] for one in found], np.int64) for k in (1, 2))
    return Shards([one[0] for one in found], rows, sizes, [one[3] for one in found], packed.pop())


def _shard(
    one: dict[str, Any], folder: str, image: str | None, where: str
) -> tuple[File, int, int, Layout, str]:
    """A shard's file, its number of samples, its bytes once unpacked, its layout, and what packs it."""
    if one["format"] != "mds" or one["version"] != 2:
        raise DataError(
            f"{where} is of format {one['format']!r}, version {one['version']}: only mds, version 2, is read"
        )
    names, sizes = one["column_names"], one["column_sizes"]
    encodings = [kind.partition(":")[0] for kind in one["column_encodings"]]  # jpeg:90 says a quality
    found = [i for i, kind in enumerate(encodings) if kind in (*ENCODED[:-1], "pil")]
    if image is not None:
        if image not in names:
            raise DataError(f"{where} has no column {image!r}, only {', '.join(names)}")
        found = [names.index(image)]
    if len(found) != 1 or encodings[found[0]] not in (*ENCODED, "pil"):
        told = ", ".join(f"{name} ({kind})" for name, kind in zip(names, encodings, strict=True))
        raise DataError(f"{where}: which of its columns holds the images? Name it, data.image=COLUMN: {told}")
    packed = (one.get("compression") or "").partition(":")[0]
    if packed not in ("", *PACKED):
        raise DataError(
            f"{where} is packed with {packed}; read are zstd, gz, bz2 and shards that are not packed"
        )
    about = one["zip_data"] if packed else one["raw_data"]
    rows, size = int(one["samples"]), int(one["raw_data"]["bytes"])
    if rows < 1 or int(about["bytes"]) < 1:
        raise DataError(f"{where} claims {rows} samples in {about['bytes']} bytes")
    digest = about.get("hashes", {}).get("sha256", "")
    name = str(about["basename"])
    if name.startswith("/") or ".." in name.split("/") or "://" in name:
        raise DataError(f"{where} is called {name!r}, which is no name within {folder}")
    file = File(f"{folder.rstrip('/')}/{name}", int(about["bytes"]), digest)
    return file, rows, size, Layout(found[0], encodings[found[0]], tuple(sizes)), packed


def unpack(packed: str, raw: Path, into: Path, address: str) -> None:
    """Unpack a shard, which errors call by its address.

    Raises:
        DataError: it is damaged.
        OSError: `into` cannot be written.
    """
    try:
        with PACKED[packed](raw, "rb") as stream, open(into, "wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in WRITING:
            raise
        raise DataError(f"{address} cannot be unpacked ({packed}): {error}") from error


class Samples:
    """The samples of one shard.

    Args:
        data: its bytes, such as a memory map.
        rows: how many samples it should have.
        name: what errors call it.

    Raises:
        DataError: it is no shard of so many samples.
    """

    def __init__(self, data: bytes | mmap, layout: Layout, rows: int, name: str):
        self.data, self.layout, self.name = memoryview(data), layout, name
        size = len(self.data)
        claimed = struct.unpack("<I", self.data[:4])[0] if size >= 4 else -1
        if claimed != rows or size < 4 * (rows + 2):
            raise DataError(f"{name} holds {claimed} samples in {size:,} bytes, and should hold {rows}")
        self.ends = np.frombuffer(self.data[4 : 4 * (rows + 2)], "<u4").astype(np.int64)  # (N + 1,)
        if self.ends[0] < 4 * (rows + 2) or self.ends[-1] != size or (np.diff(self.ends) < 0).any():
            raise DataError(
                f"{name} is damaged: its samples do not lie one after the other in its {size:,} bytes"
            )

    def read(self, i: int) -> bytes | Image.Image:
        """The image of sample i: the bytes of its file, or decoded where it is stored so."""
        sample = self.data[int(self.ends[i]) : int(self.ends[i + 1])]
        free = sum(not size for size in self.layout.sizes)
        told = iter(np.frombuffer(sample[: 4 * free], "<u4").tolist())
        sizes = [size or next(told) for size in self.layout.sizes]
        first = 4 * free + sum(sizes[: self.layout.image])
        cell = sample[first : first + sizes[self.layout.image]]
        if 4 * free + sum(sizes) != len(sample):
            raise ValueError(f"its columns take {4 * free + sum(sizes):,} bytes of {len(sample):,}")
        return _pixels(cell) if self.layout.encoding == "pil" else bytes(cell)


def _pixels(cell: memoryview) -> Image.Image:
    """An image as its width, height and length of its mode (uint32 each), the mode, and the pixels."""
    width, height, length = np.frombuffer(cell[:12], "<u4").tolist()
    mode = bytes(cell[12 : 12 + length]).decode("ascii")
    image = Image.frombytes(mode, (width, height), bytes(cell[12 + length :]))
    image.load()
    return image
