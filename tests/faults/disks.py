"""Disks that are too small, in a mount namespace of the calling process alone."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import NoReturn

import pytest

NOT_PERMITTED = 77
NEW_MOUNTS, PRIVATE, RECURSIVE = 0x20000, 1 << 18, 1 << 14


def small_disk(folder: Path, size: int) -> None:
    """Mount a disk of `size` bytes on `folder`, which only this process and its children see.

    It is gone when they are. Where the system does not permit it, the process ends with NOT_PERMITTED.
    """
    system = ctypes.CDLL(None, use_errno=True)
    folder.mkdir(parents=True, exist_ok=True)
    where, options = os.fsencode(folder), f"size={size}".encode()
    failed = system.unshare(NEW_MOUNTS)
    failed = failed or system.mount(b"none", b"/", None, PRIVATE | RECURSIVE, None)
    failed = failed or system.mount(b"tmpfs", where, b"tmpfs", 0, options)
    if failed:
        print(f"no small disk can be mounted: {os.strerror(ctypes.get_errno())}")
        sys.exit(NOT_PERMITTED)


def skipped(log: str) -> NoReturn:
    pytest.skip(log.strip().splitlines()[-1])
