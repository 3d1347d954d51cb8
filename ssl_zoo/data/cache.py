"""The cache: stores that can be made again from their sources, each a folder that is whole or absent.

    <cache>/<room>/<key>/{the store's files, seal.json}

A store is built as a draft beside its place, synced, sealed and renamed. One process builds a store while
others wait for it; where the file system has no locks, each builds its own, and the first one that is whole
is kept. The seal holds the size and digests of each file: opening a store checks them cheaply,
`fault(folder, thorough=True)` wholly, and a store that fails is built again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from ssl_zoo.data.rows import DataError
from ssl_zoo.messages import note
from ssl_zoo.portable import lock_file, remove_held, sync

ROOMS = ("images", "listings", "text", "tokenizers")  # the folders of a cache that hold stores
SEAL = "seal.json"
SMALL = 1 << 24  # bytes: files up to this size are digested wholly each time they are opened
BLOCKS, BLOCK = 64, 1 << 14  # of a larger one, so many blocks of so many bytes
# What a killed process leaves: drafts, replaced stores and locks, each named after its store's key.
LEFT = re.compile(r"\.(?P<draft>\w+)[.-].+|(?P<lock>\w+)\.lock")
# What only writing can meet, whatever the file; others may be the source's.
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def root(cache: str | Path | None = None) -> Path:
    """The cache folder: `cache` where it is given, else SSL_ZOO_CACHE, else ~/.cache/ssl_zoo.

    Raises:
        DataError: the folder begins with ~, and nobody knows whose home that is.
    """
    folder = Path(cache or os.environ.get("SSL_ZOO_CACHE") or "~/.cache/ssl_zoo")
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise DataError(f"the cache folder {folder}: {error} Set SSL_ZOO_CACHE to a folder") from error


def store(folder: Path, title: str, build: Callable[[Path], object], needed: int = 0) -> Path:
    """The store `folder`, built now where it is absent or not whole. Returns `folder`.

    Left-overs of killed processes in the folder around it are removed on the way.

    Args:
        title: what the store holds, for messages and `ssl-zoo cache`.
        build: writes the store's files into the draft folder that it is given.
        needed: how many bytes the store will take, where that is known; it is compared with the free space
            before anything is built.

    Raises:
        DataError: the cache cannot be written. What `build` raises besides is passed on.
    """
    draft, old = (folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.{end}") for end in ("part", "old"))
    try:
        sweep(folder.parent)
        if folder.exists() and fault(folder) is None:
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold(folder, f"another process builds {title}: waiting for it") as alone:
            if alone:
                _clear(folder.parent, folder.name)  # drafts of a builder that was killed while others waited
            wrong = fault(folder) if folder.exists() else None
            if wrong:
                note(f"the store {folder} ({title}) {wrong}: it is built again")
            elif folder.exists():
                return folder
            if needed > shutil.disk_usage(folder.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            _build(draft, title, build)
            if wrong:
                folder.rename(old)
            try:
                draft.rename(folder)
            except OSError:
                if alone or fault(folder) is not None:
                    raise
            sync(folder.parent)
    except OSError as error:
        if error.errno not in WRITING and not _within(error.filename, folder.parent):
            raise
        raise DataError(_refused(folder, error, needed, size(draft))) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _build(draft: Path, title: str, build: Callable[[Path], object]) -> None:
    """Build a store, sync it and seal it."""
    draft.mkdir()
    build(draft)
    files = {path.name: _facts(path) for path in sorted(draft.iterdir())}
    (draft / SEAL).write_text(json.dumps({"title": title, "files": files}, indent=1))
    sync(draft / SEAL)
    sync(draft)


def _within(filename: object, room: Path) -> bool:
    """Whether an error's file is one of the room, or a folder above it that could not be made."""
    if not isinstance(filename, str | Path):
        return False
    return Path(filename).is_relative_to(room) or room.is_relative_to(filename)


def _refused(folder: Path, error: OSError, needed: int, written: int) -> str:
    there = next(p for p in (folder, *folder.absolute().parents) if os.path.exists(p))
    return (
        f"the cache could not be written: {folder}: {error.strerror or error}. It needs "
        f"{f'{needed:,}' if needed else f'more than {written:,}'} bytes, and "
        f"{shutil.disk_usage(there).free:,} are free on that disk. Make room, or choose another folder for "
        "the cache: SSL_ZOO_CACHE=FOLDER, or data.cache=FOLDER"
    )


def size(folder: Path) -> int:
    """Bytes of the files of a store."""
    return sum(path.stat().st_size for path in folder.glob("*"))


def fault(folder: Path, thorough: bool = False) -> str | None:
    """None where the store is as it was sealed, else what is wrong with it, as the end of a sentence.

    Sizes are compared, and the digests of small files and of blocks of large ones. `thorough`, or a time of
    change that is not the sealed one, compares the digests of all bytes. Where these agree, the seal takes on
    the new time.
    """
    try:
        for path in folder.iterdir():
            if not path.is_file():  # a pipe would wait for a writer, and a device never ends
                return f"is damaged: {path.name} is no file"
        files = read_seal(folder)["files"]
        if not files:
            return f"is damaged: {folder / SEAL} names no files"
        for name, sealed in files.items():
            stat = os.stat(folder / name)
            if stat.st_size != sealed["size"]:
                return f"is damaged: {name} has {stat.st_size:,} bytes instead of {sealed['size']:,}"
            touched = stat.st_mtime_ns != sealed["changed"]
            kind = "digest" if thorough or touched else "sampled"
            with open(folder / name, "rb") as file:
                if _digest(file, stat.st_size, kind) != sealed[kind]:
                    return f"is damaged: the bytes of {name} are not those that were written"
            if touched:
                sealed["changed"] = stat.st_mtime_ns
                _reseal(folder, files)
    except FileNotFoundError as error:
        return f"is not whole: {Path(str(error.filename)).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"is damaged: {folder / SEAL} cannot be read ({error})"
    except OSError as error:
        return f"cannot be read ({error})"
    return None


def read_seal(folder: Path) -> dict[str, Any]:
    """The seal of a store: its title and, of each file, size, digests and time of change."""
    return json.loads((folder / SEAL).read_bytes())


def title(folder: Path) -> str:
    """What a store holds, as its builder called it; bytes of a path that are no text are shown as \\xff."""
    try:
        return os.fsencode(str(read_seal(folder)["title"])).decode(errors="backslashreplace")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"(its {SEAL} is missing or damaged)"


def stores(cache: Path) -> list[Path]:
    """All store folders of a cache, the damaged ones too."""
    found = (p for room in ROOMS for p in (cache / room).glob("*"))
    return sorted(p for p in found if p.is_dir() and not p.name.startswith("."))


def sweep(room: Path) -> list[Path]:
    """Remove from a folder of stores what killed processes left there; returns what was removed.

    Whoever builds a store holds its lock, so what belongs to a free lock belongs to nobody.
    """
    left: list[tuple[Path, str]] = []
    with suppress(OSError):  # a cache that cannot be read or written is no reason to stop
        left = [(room / name, m["draft"] or m["lock"]) for name, m in _left(room)]
        for key in sorted({key for _, key in left}):
            with suppress(BlockingIOError), hold(room / key, wait=False) as alone:
                if alone:
                    _clear(room, key)
    return [path for path, _ in left if not os.path.lexists(path)]


def _left(room: Path) -> list[tuple[str, re.Match[str]]]:
    return [(name, match) for name in sorted(os.listdir(room)) if (match := LEFT.fullmatch(name))]


def _clear(room: Path, key: str) -> None:
    """Remove the drafts and replaced stores of a key whose lock is held."""
    for path in [room / name for name, match in _left(room) if match["draft"] == key]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def hold(folder: Path, waits: str = "", wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a store; its file goes when it is released.

    Gives whether it is held: some network file systems have no locks, and nothing is held there.

    Args:
        waits: what to say where somebody else holds it, before waiting; "" = nothing.
        wait: whether to wait at all; else BlockingIOError is raised.
    """
    path, held = folder.with_name(f"{folder.name}.lock"), False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                lock_file(handle, wait=False)
            except BlockingIOError:
                if not wait:
                    raise
                if waits:
                    note(waits)
                lock_file(handle, wait=True)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                os.close(handle)
                path.unlink(missing_ok=True)
                break
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(handle).st_ino:  # else its holder removed it meanwhile
                    held = True
                    break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    try:
        yield held
    finally:
        if held:
            remove_held(path, handle)


def _facts(path: Path) -> dict[str, Any]:
    """What the seal says of a file, which is on the disk when this returns."""
    sync(path)
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        kinds = {kind: _digest(file, stat.st_size, kind) for kind in ("digest", "sampled")}
    return {"size": stat.st_size, "changed": stat.st_mtime_ns, **kinds}


def _digest(file: BufferedReader, size: int, kind: str) -> str:
    """SHA-256 of all of a file ("digest"), or of blocks spread evenly over a large one ("sampled")."""
    file.seek(0)
    if kind == "digest" or size <= SMALL:
        return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for i in range(BLOCKS):
        file.seek((size - BLOCK) * i // (BLOCKS - 1))
        digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _reseal(folder: Path, files: dict[str, Any]) -> None:
    """Note new times of change of files that proved whole, where the cache may be written."""
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    with suppress(OSError):
        part.write_text(json.dumps(read_seal(folder) | {"files": files}, indent=1))
        os.replace(part, folder / SEAL)
