"""Files that are whole or as they were before."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from ssl_zoo.portable import runs


def write_atomically(path: Path, data: bytes) -> None:
    """Write all of `data`, or leave the file as it was. What killed writers of this file left is removed.

    Raises:
        OSError: it could not be written; names the file.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        number = left.name.split(".")[-2]
        if number.isdecimal() and not alive(int(number)):
            left.unlink(missing_ok=True)
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # A full disk does not say where.
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def alive(process: int) -> bool:
    """Whether another process of this number runs on this machine."""
    return process != os.getpid() and runs(process)
