"""results.jsonl: one JSON object a line, for each row and seed. Lines are only added; the last one counts."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_zoo.leaderboard.board import BoardError

Key = tuple[str, int]  # row and seed


def append(file: Path, record: Mapping[str, Any]) -> None:
    """Add a line, flushed to the disk; several processes may do so at once.

    A last line that a killed writer left without its end is cut off first: it was never whole.
    """
    line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    with open(file, "ab+") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.seek(0)
        before = out.read()
        if before and not before.endswith(b"\n"):
            out.truncate(before.rfind(b"\n") + 1)
        out.write(line)
        out.flush()
        os.fsync(out.fileno())


def read(file: Path) -> dict[Key, dict[str, Any]]:
    """The last record of each row and seed; {} where there is no file.

    Raises:
        BoardError: a damaged line; a damaged last one without its end is a killed writer's, and skipped.
    """
    if not file.exists():
        return {}
    found: dict[Key, dict[str, Any]] = {}
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            key = str(record["row"]), int(record["seed"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                warnings.warn(f"{file}: the last line was cut off by a killed writer; skipped", stacklevel=2)
                continue
            raise BoardError(f"{file}, line {number} is not a result: {error}") from error
        found[key] = record
    return found
