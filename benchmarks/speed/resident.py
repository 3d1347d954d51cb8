"""Memory of this process, as Linux counts it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path


def status(field: str) -> float:
    """VmRSS (resident now) or VmHWM (its peak) of this process in MiB."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) / 1024


def peak(call: Callable[[], object]) -> float:
    """MiB that a call needs at most, beyond what lay in memory before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = status("VmRSS")
    call()
    return status("VmHWM") - before
