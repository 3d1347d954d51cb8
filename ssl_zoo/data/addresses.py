"""Files at addresses, https://host/name, s3://bucket/name and the like: found and fetched through fsspec.

A plain path is the address of a file here. What a protocol needs besides (s3fs for s3://, gcsfs for gs://) is
the user's to install, and credentials are looked up where those packages look them up.
"""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssl_zoo.data.cache import WRITING
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.schemes import is_address
from ssl_zoo.messages import note

WEB = re.compile(r"https?://")
BRACES = re.compile(r"\{([^{}]*)\}")
TRIES, PAUSE = 5, 1.0  # how often a file is asked for, and seconds before the second time; they double
CONNECT, SILENCE = 30.0, 60.0  # seconds until a server answers, and between two pieces of a file
SMALL = 1 << 26  # bytes of a file that is read into memory


def expanded(pattern: str) -> list[str]:
    """The addresses that a pattern stands for, in order.

    `{000..127}` counts, with as many digits as its ends have, and `{a,b}` lists. `*` and `?` are looked up;
    web servers do not list their files, and `?` begins a query there.

    Raises:
        DataError: nothing matches, or the address cannot be looked up.
    """
    every = list(_braces(pattern))
    found: list[str] = []
    for one in every:
        if re.search(r"[*]" if WEB.match(one) else r"[*?]", one) is None:
            found.append(one)
        elif is_address(one):
            found += _glob(one)
        else:
            found += sorted(glob.glob(str(Path(one).expanduser()), recursive=True))
    if not found:
        raise DataError(f"nothing lies at {pattern}")
    if again := len(found) - len(set(found)):
        raise DataError(f"{pattern} names {again} files twice")
    return found


def _braces(pattern: str) -> Iterator[str]:
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    inner = found[1]
    counted = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    if counted:
        first, last = int(counted[1]), int(counted[2])
        if last < first:
            raise DataError(f"{pattern} counts down: write {{{counted[2]}..{counted[1]}}}")
        options = [str(n).zfill(len(counted[1])) for n in range(first, last + 1)]
    else:
        options = inner.split(",")
    for option in options:
        yield from _braces(pattern[: found.start()] + option + pattern[found.end() :])


def _glob(pattern: str) -> list[str]:
    if WEB.match(pattern):
        raise DataError(
            f"{pattern}: web servers do not list their files; write {{000..127}} in the place of *"
        )
    system, inner = _system(pattern)
    try:
        return [system.unstrip_protocol(path) for path in sorted(system.glob(inner))]
    except Exception as error:  # each protocol's package has errors of its own
        raise DataError(f"{pattern} cannot be looked up: {_said(error)}") from error


def size_of(address: str) -> int:
    """Bytes of the file at an address; -1 where its server does not tell.

    Raises:
        DataError: there is no such file, or it cannot be asked for.
    """
    if not is_address(address):
        return _local(address).stat().st_size

    def ask(system: Any, inner: str) -> int:
        size = system.info(inner).get("size")
        return -1 if size is None else int(size)

    return _tried(address, ask)


def fetch(address: str, into: Path, size: int = -1) -> None:
    """Write the file at an address to `into`, which is left half-written where this fails.

    A server that breaks off, is silent for a minute or sends another number of bytes is asked again, five
    times in all.

    Args:
        size: bytes that it must have; -1 = any number.

    Raises:
        DataError: no such file, no permission, or no whole file in five tries.
        OSError: `into` cannot be written.
    """

    def get(system: Any, inner: str) -> None:
        try:
            system.get_file(inner, str(into))
        except OSError as error:
            if error.errno in WRITING or error.filename == str(into):
                raise _HereError(error) from error
            raise
        got = into.stat().st_size
        if size >= 0 and got != size:
            raise ConnectionError(f"{got:,} bytes came, and it should have {size:,}")

    try:
        _tried(address, get)
    except _HereError as here:
        raise here.error from None


def read(address: str) -> bytes:
    """All bytes of a small file at an address, or at a path. Errors are those of `fetch`."""
    if not is_address(address):
        return _local(address).read_bytes()

    def whole(system: Any, inner: str) -> bytes:
        parts, total = [], 0
        with system.open(inner, "rb", block_size=0) as file:
            while part := file.read(1 << 20):  # what has arrived, not as much as was asked for
                parts.append(part)
                if (total := total + len(part)) > SMALL:
                    raise _HereError(OSError(f"it has more than {SMALL:,} bytes"))
        return b"".join(parts)

    try:
        return _tried(address, whole)
    except _HereError as here:
        raise DataError(f"{address} is no list of files: {here.error}") from None


class _HereError(Exception):
    """What went wrong on this side, so that asking again does not help."""

    def __init__(self, error: OSError):
        super().__init__(str(error))
        self.error = error


def _local(address: str) -> Path:
    path = Path(address).expanduser()
    if not path.is_file():
        raise DataError(f"no file lies at {address}")
    return path


def _tried(address: str, ask: Any) -> Any:
    """What `ask` makes of a file system and the address within it; tried again where that may help."""
    system, inner = _system(address)
    pause, told = PAUSE, ""
    for number in range(TRIES):
        if number:
            note(f"{address}: {told}; asked again in {pause:g} s ({number} of {TRIES - 1})")
            time.sleep(pause)
            pause *= 2
        try:
            return ask(system, inner)
        except _HereError:
            raise
        except PermissionError as error:
            raise DataError(f"{address} may not be read: {_said(error)}") from error
        except Exception as error:  # each protocol's package has errors of its own
            # fsspec calls whatever a web server answers to a question for the size a missing file.
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            told, status = _said(cause), getattr(cause, "status", 500)
            if isinstance(cause, FileNotFoundError) or status in (404, 410):
                raise DataError(f"no file lies at {address}") from error
            if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429):
                raise DataError(f"{address} may not be read: {told}") from error
    raise DataError(f"{address} could not be fetched in {TRIES} tries: {told}")


def _said(error: BaseException) -> str:
    return f"{error}".strip() or type(error).__name__


def _system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the address within it."""
    import fsspec

    options: dict[str, Any] = {}
    if WEB.match(address):
        import aiohttp

        silence = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
        # Packed on the way, a file would have another size than the one that is announced.
        options = {"client_kwargs": {"timeout": silence, "headers": {"Accept-Encoding": "identity"}}}
    try:
        return fsspec.core.url_to_fs(address, **options)
    except (ImportError, ValueError) as error:
        raise DataError(f"{address} cannot be opened: {error}") from error
