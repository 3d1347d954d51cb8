"""What systems do in different ways: locks, signals, reading at a place, which process runs.

Linux and macOS have all of it; Windows has other ways for locks and processes, and some signals are missing.
No other file of this library asks which system it is on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # every other system
    msvcrt = None

AGAIN = 0.05  # seconds between two looks at a lock that cannot be waited for
_reading = threading.Lock()


# Locks


def lock_file(handle: int, wait: bool) -> None:
    """Hold the lock of an open file until it is closed, also by processes that are forked meanwhile.

    Args:
        wait: whether to wait while somebody else holds it.

    Raises:
        BlockingIOError: somebody else holds it.
        OSError: the file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    else:
        _lock_byte(handle, 0, wait)


def lock_byte(handle: int, place: int, wait: bool, shared: bool = False) -> None:
    """Hold the lock of one byte of an open file, for this process alone, until the file is closed.

    Args:
        place: of the byte, which need not exist.
        wait: whether to wait while somebody else holds it.
        shared: whether others that share it may hold it too. Windows has no such locks: one holds it.

    Raises:
        OSError: somebody else holds it (EACCES or EAGAIN), or the file system has no locks.
    """
    if fcntl is not None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.lockf(handle, kind | (0 if wait else fcntl.LOCK_NB), 1, place)
    else:
        _lock_byte(handle, place, wait)


def _lock_byte(handle: int, place: int, wait: bool) -> None:
    """Windows' way; without it, nothing is locked."""
    locking: Callable[[int, int, int], None] | None = getattr(msvcrt, "locking", None)
    if locking is None:
        return
    while True:
        os.lseek(handle, place, os.SEEK_SET)
        try:
            locking(handle, getattr(msvcrt, "LK_NBLCK", 2), 1)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
            threading.Event().wait(AGAIN)
        else:
            return


def remove_held(path: Path, handle: int) -> None:
    """Close a file whose lock is held and remove it, in the other order where the system permits.

    Windows removes no file that is open: it is closed first, and stays where somebody else has opened it.
    """
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        os.close(handle)
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
    else:
        os.close(handle)


# Files


def open_to_read(path: Path | str) -> int:
    """The handle of a file that is opened for reading bytes; a pipe is not waited for."""
    names = ("O_BINARY", "O_NONBLOCK", "O_CLOEXEC")
    return os.open(path, sum(getattr(os, name, 0) for name in names) | os.O_RDONLY)


def read_at(handle: int, into: Any, place: int) -> int:
    """Fill a buffer of bytes from a place of an open file; threads may do so at once.

    Returns:
        How many bytes were read: fewer than asked for where the file ends.
    """
    if hasattr(os, "preadv"):
        return os.preadv(handle, [into], place)
    target = memoryview(into).cast("B")
    with _reading:
        os.lseek(handle, place, os.SEEK_SET)
        found = os.read(handle, len(target))
    target[: len(found)] = found
    return len(found)


def sync(path: Path) -> None:
    """Have what was written to a file or folder on the disk. Windows does so for files alone."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(
        path, (os.O_RDWR if sys.platform == "win32" else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
    )
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def facts(entry: os.DirEntry[str]) -> os.stat_result:
    """What lies in a folder, links not followed. On Windows an entry does not know which file it is."""
    found = entry.stat(follow_symlinks=False)
    return found if found.st_ino else os.stat(entry.path, follow_symlinks=False)


# Processes and signals


def runs(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    if sys.platform == "win32":  # there, os.kill would end it
        kernel = _windows()
        handle = kernel.OpenProcess(0x1000, False, process)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            kernel.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def memory() -> int:
    """The bytes of memory that this machine has."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kilobytes = ctypes.c_ulonglong()
    _windows().GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    return kilobytes.value << 10


def _windows() -> Any:
    """The functions of Windows' kernel."""
    return getattr(ctypes, "windll").kernel32  # noqa: B009 (no other system has it)


def signals(*names: str) -> set[signal.Signals]:
    """The signals of these names that the system has."""
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


def number(name: str) -> int | None:
    """The number of a signal; None where the system does not have it."""
    return getattr(signal, name, None)


def block(numbers: Collection[int]) -> Any:
    """Put off signals for this thread; returns those before, for `unblock`. Windows has no such thing."""
    if hasattr(signal, "pthread_sigmask"):
        return signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    return None


@contextmanager
def blocked(numbers: Collection[int]) -> Iterator[None]:
    """Within, these signals are put off for this thread, and for processes that it starts."""
    before = block(numbers)
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock(number: int) -> None:
    """Let a signal through."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


def after_fork(function: Callable[[], object]) -> None:
    """Call a function in each process that is forked from this one. Windows forks none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
