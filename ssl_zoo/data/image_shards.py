"""Shards in WebDataset form: tar archives in which neighbours make a sample.

`KEY.jpg` (or .png, .webp, ...) is the image and `KEY.cls` its class index in ASCII; a sample without the
latter is unlabelled. The key is the path up to the first dot of its last part; where no file has that name
alone (`photo.1.jpg`, `photo.1.cls`, `photo.2.jpg`), the key is the path up to the last dot. Other files are
left out and counted. Nothing is unpacked, and no size that an archive claims is taken into memory unchecked.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Generic, NamedTuple, TypeVar

from ssl_zoo.data.image_classes import class_index
from ssl_zoo.data.image_decoding import MAX_PIXELS, check_size, open_file, suffixes
from ssl_zoo.data.rows import DataError

SHARDS = (".tar", ".tar.gz", ".tgz")
HEADER = 1 << 16  # bytes: of a header that holds a long name
GLOBAL = 1000
TAIL = 1 << 20  # bytes: so many are read at a time behind an archive's end
# Deflate reaches 1,032 to 1. Encoded images do not get near this, nor do raw ones in a whole archive.
RATIO, UNCHECKED = 200, 1 << 27

T = TypeVar("T")


def read_shard(
    path: Path, max_pixels: int = MAX_PIXELS, left: Counter[str] | None = None
) -> Iterator[tuple[str, bytes, int]]:
    """Name, encoded image and label (-1 = unlabelled) of each sample of one shard, in its order.

    Args:
        max_pixels: an image of more bytes than these can need is refused.
        left: what was left out is counted here.

    Raises:
        DataError: the archive is damaged, cut off or expands beyond measure, a sample has not one image, or a
            label is no class index.
    """

    def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        try:
            check_size(member.size, max_pixels)
        except ValueError as error:
            raise DataError(f"{path}:{member.name}: {error}") from None
        return _content(tar, member)

    # A stream cannot be sought in, and tarfile goes back by a byte now and then.
    mode = "r:" if path.suffix == ".tar" else "r|"
    found = _samples(path, mode, content, Counter() if left is None else left)
    return ((f"{path}:{name}", image, label) for name, image, label in found)


def list_shard(path: Path, left: Counter[str] | None = None) -> Iterator[tuple[str, int, int, int]]:
    """Name within the shard, first byte, size in bytes and label of each image of an uncompressed shard.

    Only headers and labels are read.

    Raises:
        DataError: as `read_shard`.
    """
    found = _samples(path, "r:", _place, Counter() if left is None else left)
    return ((name, *place, label) for name, place, label in found)


def _samples(
    path: Path, mode: str, image: Callable[[tarfile.TarFile, tarfile.TarInfo], T], left: Counter[str]
) -> Iterator[tuple[str, T, int]]:
    """Name, what `image` makes of the image's member, and label of each sample."""
    try:
        # Left to itself, tarfile takes a file that was cut off between two members for a shorter one;
        # gzip notices, and a plain archive shows it in its last block.
        with (
            open_file(path) as file,
            file if path.suffix == ".tar" else _Unpacked(file) as plain,
            tarfile.open(fileobj=plain, mode=mode, tarinfo=_Header) as tar,  # pyright: ignore
        ):
            if path.suffix == ".tar" and not _ends(path):
                raise tarfile.ReadError("the mark at its end is missing, so it was cut off")
            reader = _Reader(path, tar, image, left)
            size = os.fstat(file.fileno()).st_size
            most = size if path.suffix == ".tar" else max(UNCHECKED, RATIO * size)
            for key, parts in groupby(_parts(tar, left, most), key=lambda part: part.key):
                yield from reader.samples(key, parts)
            _nothing_after(tar, mode)
    except _Refused as error:
        raise DataError(f"{path}: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, OSError, RecursionError) as error:
        raise DataError(f"{path} is damaged or no tar archive: {error}") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged or no tar archive: {error}") from error


class _Refused(tarfile.TarError):
    """What would take memory or time without measure."""


class _Header(tarfile.TarInfo):
    """A header whose claims are checked before tarfile believes them."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.InvalidHeaderError as error:  # pyright: ignore  # which tarfile takes for the end
            raise tarfile.ReadError(str(error)) from error
        plain = (*tarfile.REGULAR_TYPES, *(bytes([c]) for c in b"123456"))  # files, links, devices, folders
        if header.size < 0:
            raise _Refused(f"the header of {header.name} claims {header.size} bytes")
        if header.type not in plain and header.size > HEADER:
            raise _Refused(f"a header claims {header.size:,} bytes for a name, and {HEADER:,} are allowed")
        if header.type == tarfile.GNUTYPE_SPARSE:
            cls._proc_gnusparse_10(header)
        return header

    def _proc_gnusparse_10(self, *_: object) -> None:  # tarfile's name: such a map may have any length
        raise _Refused(f"{self.name} is stored with holes; pack it without --sparse")


class _Unpacked(gzip.GzipFile):
    """A gzip file that stops where it expands beyond measure."""

    def __init__(self, packed: IO[bytes]):
        super().__init__(fileobj=packed, mode="rb")
        self.packed = packed

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if (reached := self.tell()) > max(UNCHECKED, RATIO * self.packed.tell()):
            raise _Refused(
                f"its first {self.packed.tell():,} bytes expand to {reached:,}, more than {RATIO} to 1; if "
                "that is right, unpack it (gunzip) and give the .tar"
            )
        return data


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, int]:
    return member.offset_data, member.size


def _ends(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, os.stat(path).st_size - 512))
        return file.read() == bytes(512)


def _nothing_after(tar: tarfile.TarFile, mode: str) -> None:
    """Refuse an archive with more behind the mark at its end. A stream is read on, so that gzip checks it;
    a file, whose zeros may be a hole of any length, for one TAIL."""
    stream: Any = tar.fileobj
    if mode == "r:":
        stream.seek(tar.offset)
    while chunk := stream.read(TAIL):
        if chunk.strip(b"\0"):
            raise _Refused(
                "more follows the mark at its end, as where archives were joined: give each by itself"
            )
        if mode == "r:":
            return


class _Part(NamedTuple):
    """A member KEY[.STEM].END: key up to the first dot of its name, end after the last."""

    key: str
    stem: str
    end: str
    member: tarfile.TarInfo


def _parts(tar: tarfile.TarFile, left: Counter[str], most: int) -> Iterator[_Part]:
    """Images and labels of an archive that holds at most so many bytes; all else but folders is counted."""
    images = frozenset(suffixes())
    for member in tar:
        tar.members.clear()  # pyright: ignore  # tarfile remembers every member; a stream needs none
        if not 0 <= member.size <= most:
            raise tarfile.ReadError(
                f"{member.name} claims {member.size:,} bytes, and {most:,} are the most here"
            )
        if member.issparse():
            raise _Refused(f"{member.name} is stored with holes; pack it without --sparse")
        if len(tar.pax_headers) > GLOBAL:
            raise _Refused(f"it has more than {GLOBAL} headers that hold for all members")
        folder, _, name = member.name.rpartition("/")
        first, _, rest = name.partition(".")
        stem, _, end = rest.rpartition(".")
        if member.isdir():
            continue
        if name.startswith("."):
            left["hidden"] += 1
        elif not member.isfile():
            left["links" if member.issym() or member.islnk() else "pipes or devices"] += 1
        elif end.lower() == "cls" or f".{end.lower()}" in images:
            yield _Part(f"{folder}/{first}".lstrip("./"), stem, end.lower(), member)
        else:
            left[f".{end.lower()}" if end else "without a suffix"] += 1


class _Reader(NamedTuple, Generic[T]):
    """What turns members into samples. image: what is wanted of an image's member."""

    path: Path
    tar: tarfile.TarFile
    image: Callable[[tarfile.TarFile, tarfile.TarInfo], T]
    left: Counter[str]

    def samples(self, key: str, parts: Iterator[_Part]) -> Iterator[tuple[str, T, int]]:
        """Those of neighbours that share a key: one or, where all their names are dotted, one for each stem.

        An image is held back until the next one comes, for its label may follow.
        """
        held: tuple[str, str, T] | None = None  # stem, name, what `image` made of it
        labels: dict[str, int] = {}  # by stem
        images, bare = 0, False
        for _, stem, end, member in parts:
            name = f"{key}.{stem}.{end}" if stem else f"{key}.{end}"
            bare |= not stem
            if end == "cls":
                if stem in labels:
                    raise DataError(f"{self.path}: {name} is there twice, and a sample has one label")
                labels[stem] = _label(self.tar, member, f"{self.path}:{name}")
                continue
            images += 1
            if held and (bare or held[0] == stem):
                raise self._not_one(key, images)
            if held:
                yield held[1], held[2], labels.pop(held[0], -1)
            held = (stem, name, self.image(self.tar, member))
        if bare and images > 1:
            raise self._not_one(key, images)
        if held:
            yield held[1], held[2], labels.pop("" if bare else held[0], -1)
        for stem in labels:
            if not (bare and stem):
                raise self._not_one(f"{key}.{stem}" if stem else key, 0)
            self.left[f".{stem}.cls"] += 1  # of a sample that has other labels besides

    def _not_one(self, key: str, images: int) -> DataError:
        return DataError(f"{self.path}: sample {key} has {images} images, and needs one")


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> int:
    if member.size > 64:
        raise DataError(f"{name} should hold a class index such as 7, and has {member.size:,} bytes")
    text = _content(tar, member).strip()
    if not text.isdigit():
        raise DataError(f"{name} should hold a class index such as 7, and holds {text[:40]!r}")
    return class_index(int(text), name)
