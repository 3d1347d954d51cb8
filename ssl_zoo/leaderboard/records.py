"""results.jsonl: one JSON object for each line of the board and seed, on a line of the file of its own.

Records are only added; the last one of a line and seed counts.
"""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ssl_zoo.leaderboard.board import BoardError
from ssl_zoo.portable import lock_file

Key = tuple[str, int]  # line of the board and seed
# Keys of records that were renamed, so that one word means one thing.
RENAMED = {"row": "line", "family": "role", "words": "overrides"}
RENAME = " ".join(f'-e \'s/"{old}":/"{new}":/g\'' for old, new in RENAMED.items())


def append(file: Path, record: Mapping[str, Any]) -> None:
    """Add a record, and flush it to the disk. Several processes may do so at once.

    A last line that a killed writer left unfinished is cut off first; a whole one that only lacks its newline
    gets it.

    Raises:
        OSError: the disk is full, or the file cannot be written. The whole records in it stay as they were.
        ValueError: the record holds NaN or an infinity.
    """
    line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    with open(file, "ab+", buffering=0) as out:
        lock_file(out.fileno(), wait=True)
        out.seek(0)
        before = out.read()
        last = before[before.rfind(b"\n") + 1 :]
        whole = len(before) - (0 if parsed(last) else len(last))
        line = (b"\n" if last and parsed(last) else b"") + line
        try:
            out.truncate(whole)
            if out.write(line) < len(line):
                raise OSError(errno.ENOSPC, "the disk is full")
            os.fsync(out.fileno())
        except OSError as error:
            out.truncate(whole)
            why = f"a result could not be added ({error.strerror})"
            raise OSError(error.errno, why, str(file)) from error


def read(file: Path) -> dict[Key, dict[str, Any]]:
    """The last record of each line and seed; {} where there is no file.

    Raises:
        BoardError: a line is damaged, or of an earlier version. A damaged last line without its newline is a
            killed writer's: it is skipped with a warning.
    """
    if not file.exists():
        return {}
    found: dict[Key, dict[str, Any]] = {}
    lines, offset = file.read_bytes().splitlines(keepends=True), 0
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line, parse_constant=refuse_constant)
            if isinstance(record, dict) and set(record) & set(RENAMED):
                raise BoardError(
                    f"{file} was written by an earlier version: row, family and words are now line, role "
                    f"and overrides. Rename them with sed -i {RENAME} {file}"
                )
            found[named(record)] = record
        except BoardError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                warnings.warn(f"{file}: the last line was cut off by a killed writer; skipped", stacklevel=2)
                continue
            why = f"it lacks the key {error}" if isinstance(error, KeyError) else str(error)
            raise BoardError(
                f"{file}, line {number} is not a result (at byte {offset:,} of the file): {why}. Restore the "
                "file, or take this line of it out; `leaderboard run` then measures its line and seed again"
            ) from error
        offset += len(line)
    return found


def parsed(line: bytes) -> bool:
    """Whether a line of the file is a whole record."""
    try:
        named(json.loads(line))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


def named(record: Any) -> Key:
    """The line and seed of a record.

    Raises:
        KeyError, TypeError: it has none, or no fitting ones.
    """
    if not isinstance(record, dict):
        raise TypeError(f"it is no JSON object but {type(record).__name__}")
    line, seed = record["line"], record["seed"]
    if not isinstance(line, str) or type(seed) is not int:
        raise TypeError(f"line must be a text and seed an integer, not {line!r} and {seed!r}")
    return line, seed


def refuse_constant(name: str) -> NoReturn:
    """Raise ValueError for NaN and Infinity, which Python's `json` would read, and which are no results."""
    raise ValueError(f"{name} is no result")
