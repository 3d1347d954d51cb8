"""Shards in WebDataset form: tar archives in which neighbours make a sample.

`KEY.jpg` (or .png, .webp, ...) is the image and `KEY.cls` its class index in ASCII; a sample without the
latter is unlabelled. The key is the path up to the first dot of its last part. Other files are passed over.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from ssl_zoo.data.rows import DataError

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")
SHARDS = (".tar", ".tar.gz", ".tgz")

T = TypeVar("T")


def read_shard(path: Path) -> Iterator[tuple[str, bytes, int]]:
    """Name, encoded image and label (-1 = unlabelled) of each sample of one shard, in its order.

    Raises:
        DataError: the archive is damaged or cut off, a sample has not one image, or a label is no number.
    """
    return ((f"{path}:{name}", image, label) for name, image, label in _samples(path, "r|", _content))


def list_shard(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name within the shard, first byte, size in bytes and label of each image of an uncompressed shard.

    Only headers and labels are read.

    Raises:
        DataError: as `read_shard`.
    """
    return ((name, *place, label) for name, place, label in _samples(path, "r:", _place))


def _samples(
    path: Path, mode: str, image: Callable[[tarfile.TarFile, tarfile.TarInfo], T]
) -> Iterator[tuple[str, T, int]]:
    """Name, what `image` makes of the image's member, and label of each sample."""
    try:
        # Left to itself, tarfile takes a file that was cut off between two members for a shorter one;
        # gzip notices, and a plain archive shows it in its last block.
        with (
            open(path, "rb") if path.suffix == ".tar" else gzip.open(path) as file,
            tarfile.open(fileobj=file, mode=mode) as tar,  # pyright: ignore
        ):
            if path.suffix == ".tar" and not _ends(path):
                raise tarfile.ReadError("the mark at its end is missing, so it was cut off")
            for key, parts in groupby(_members(tar), key=lambda part: part[0]):
                images, label = [], -1
                for _, end, member in parts:
                    if end == "cls":
                        label = _label(_content(tar, member), f"{path}:{key}.cls")
                    elif f".{end}".endswith(IMAGES):
                        images.append((f"{key}.{end}", image(tar, member)))
                if len(images) > 1 or (label >= 0 and not images):
                    raise DataError(f"{path}: sample {key} has {len(images)} images, and needs one")
                if images:
                    yield *images[0], label
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path} is damaged or no tar archive: {error}") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, int]:
    if member.issparse():
        raise tarfile.ReadError(f"{member.name} is stored with holes; pack it without --sparse")
    return member.offset_data, member.size


def _ends(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, os.stat(path).st_size - 512))
        return file.read() == bytes(512)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Key, ending and header of each file, hidden ones left out."""
    for member in tar:
        tar.members.clear()  # pyright: ignore  # tarfile remembers every member; a stream needs none
        folder, _, name = member.name.rpartition("/")
        if member.isfile() and not name.startswith("."):
            stem, _, end = name.partition(".")
            yield f"{folder}/{stem}".lstrip("./"), end.lower(), member


def _label(text: bytes, name: str) -> int:
    if not text.strip().isdigit():
        raise DataError(f"{name} should hold a class index such as 7, and holds {text[:40]!r}")
    return int(text)
