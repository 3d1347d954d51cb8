"""Files of streams on the local disk, no more of them than a limit: fetched when they are asked for.

    <cache>/streams/{KEY-NAME, digests/KEY}

Processes share a shelf. One fetches a file while those that need it wait; the file appears whole, by a
rename. What was used longest ago goes first when the limit is reached; whoever reads such a file has it open.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ssl_zoo.data import addresses, cache
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.schemes import is_address

ROOM = "streams"  # the folder of a cache that is a shelf
LEFT = re.compile(r"\.(?P<name>.+?)(\.[0-9a-f]{8}\.(part|raw(\.\w+)*)|\.lock)")
UNPACKED = "unpacked-"  # stands before the names of files that are kept unpacked
PINNED = 3600.0  # seconds after which no process still uses a path


class File(NamedTuple):
    """address: where it lies. size: its bytes there, -1 = not known. digest: the SHA-256 that they are listed
    with, in hexadecimal digits, "" = none."""

    address: str
    size: int = -1
    digest: str = ""


Unpack = Callable[[Path, Path, str], None]  # what was fetched, what to make of it, and its address


class Shelf:
    """Files of streams, on a disk of this machine: those of a network disk may go away while they are open.

    Args:
        folder: that all streams of a cache share.
        limit: bytes on it at most. A file that is larger by itself is kept alone.
        unpack: makes of a fetched file the one that is kept; None keeps it as it is. The name of what it is
            given ends as that of the file at its address.
        made: tells apart what different `unpack` make of one file.
    """

    def __init__(self, folder: Path, limit: int, unpack: Unpack | None = None, made: str = ""):
        self.folder, self.limit, self.unpack, self.swept = folder, limit, unpack, False
        self.made = f"{UNPACKED}{made}-" if made else UNPACKED

    def place(self, file: File) -> Path:
        """Where a file is kept; a local one that is not unpacked stays where it is."""
        if self.unpack is None and not is_address(file.address):
            return Path(file.address).expanduser()
        name = re.sub(r"[^\w.-]", "_", file.address.rstrip("/").rpartition("/")[2])
        kind = "" if self.unpack is None else self.made
        return self.folder / f"{shelf_key(file)}-{kind}{name[-60:]}"

    @contextmanager
    def pinned(self, file: File) -> Iterator[Path]:
        """A path that leads to a file within the block, whoever makes room meanwhile.

        Raises:
            DataError: the file cannot be fetched, is not what it should be, or finds no room.
        """
        place = self.place(file)
        if place.parent != self.folder:
            if not place.is_file():
                raise DataError(f"no file lies at {file.address}")
            yield place
            return
        pin = self.folder / f".pin-{secrets.token_hex(4)}-{place.name}"
        while True:
            self.fetch(file)
            try:
                _link(place, pin)
            except FileNotFoundError:  # another process has made room meanwhile
                continue
            except OSError as error:
                pin.unlink(missing_ok=True)
                raise self._no_room(file, error) from error
            break
        try:
            yield pin
        finally:
            pin.unlink(missing_ok=True)

    def fetch(self, file: File) -> None:
        """Have a file here. Errors are those of `pinned`."""
        place = self.place(file)
        if place.exists():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with cache.hold(place.with_name(f".{place.name}")) as alone:
                if alone:
                    for left in self.folder.glob(f".{place.name}.*.*"):  # of a process that was killed
                        left.unlink(missing_ok=True)
                if not place.exists():
                    self._fetch(file, place)
        except OSError as error:
            raise self._no_room(file, error) from error

    def _no_room(self, file: File, error: OSError) -> DataError:
        return DataError(
            f"{file.address} cannot be kept in {self.folder}: {error.strerror or error}. Make room, or "
            "choose another folder: SSL_ZOO_CACHE=FOLDER"
        )

    def _fetch(self, file: File, place: Path) -> None:
        part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
        ending = "".join(re.findall(r"\.\w+", place.name)[-2:])
        raw = part.with_suffix(f".raw{ending}") if self.unpack else part
        try:
            self._make_room(max(file.size, 0))
            if is_address(file.address):
                addresses.fetch(file.address, raw, file.size)
            else:
                _copy(file, raw)
            self._check(file, raw)
            if self.unpack:
                self.unpack(raw, part, file.address)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)
            raw.unlink(missing_ok=True)
        self._make_room(0, spare=place)

    def _check(self, file: File, raw: Path) -> None:
        """Raise DataError unless a file's content is the one that was listed, or that came the first time."""
        found, note = digest(raw), self.folder / "digests" / shelf_key(file)
        if file.digest and found != file.digest:
            raise DataError(f"{file.address}: its bytes are not those that were listed, or counted, before")
        try:
            before = note.read_text()
        except FileNotFoundError:
            note.parent.mkdir(exist_ok=True)
            own = note.with_name(f".{note.name}.{secrets.token_hex(4)}")
            own.write_text(found)
            os.replace(own, note)
            return
        if before != found:
            raise DataError(
                f"{file.address} has changed since it was read first, and going on would mix two data sets. "
                f"If that is wanted, remove {note} and start a new run"
            )

    def _make_room(self, needed: int, spare: Path | None = None) -> None:
        """Remove what was used longest ago, until so many bytes fit below the limit and on the disk."""
        if not self.swept:
            self.swept = True
            sweep(self.folder)
        kept = []
        for path in files(self.folder):
            with contextlib.suppress(OSError):  # another process has removed it
                about = path.stat()
                kept.append((about.st_mtime_ns, about.st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total + needed <= self.limit and needed <= shutil.disk_usage(self.folder).free:
                break
            if path != spare:
                path.unlink(missing_ok=True)
                total -= size


def _copy(file: File, into: Path) -> None:
    """Copy a local file."""
    with contextlib.ExitStack() as both:
        try:
            source = both.enter_context(open(Path(file.address).expanduser(), "rb"))
        except OSError as error:
            raise DataError(f"{file.address} cannot be read: {error.strerror or error}") from error
        shutil.copyfileobj(source, both.enter_context(open(into, "wb")), 1 << 20)


def files(folder: Path) -> list[Path]:
    """The files that a shelf keeps; none where there is no such folder."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def fault(path: Path) -> str | None:
    """None where a file of a shelf has the bytes that came first from its address, or was unpacked and
    cannot be compared with them; else what is wrong, as the end of a sentence."""
    key, _, name = path.name.partition("-")
    if name.startswith(UNPACKED):
        return None
    try:
        same = digest(path) == (path.parent / "digests" / key).read_text()
    except OSError as error:
        return f"cannot be read, or compared ({error})"
    return None if same else "is damaged: its bytes are not those that were fetched; remove it"


def sweep(folder: Path) -> list[Path]:
    """Remove what killed processes left: unfinished files and locks, and paths of an hour ago. Returns what
    was removed."""
    left = [path for path in (folder.iterdir() if folder.is_dir() else ()) if path.name.startswith(".")]
    for path in left:
        with contextlib.suppress(OSError):
            if path.name.startswith(".pin-"):
                if time.time() - path.stat().st_mtime > PINNED:
                    path.unlink()
            elif found := LEFT.fullmatch(path.name):
                with cache.hold(folder / f".{found['name']}", wait=False) as alone:
                    if alone and not path.name.endswith(".lock"):
                        path.unlink(missing_ok=True)
    return sorted(path for path in left if not os.path.lexists(path))


def _link(place: Path, pin: Path) -> None:
    """Have a second path lead to a file, which counts as used just now."""
    with contextlib.suppress(PermissionError):
        os.utime(place)
    try:
        pin.hardlink_to(place)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(place, pin)


def shelf_key(file: File) -> str:
    """A file that has another size today is another file, and one here that was written anew."""
    about = f"{file.size} {file.address}"
    if not is_address(file.address):
        path = Path(file.address).expanduser().absolute()
        with contextlib.suppress(FileNotFoundError):  # whoever opens it is told
            stat = path.stat()
            about = f"{stat.st_size} {stat.st_mtime_ns} {path}"
    return hashlib.blake2b(about.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
