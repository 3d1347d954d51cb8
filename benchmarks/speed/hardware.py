"""What a results file says of the machine and the versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "torchvision", "lightning", "timm", "numba", "numpy",
    "lightly", "kornia", "transformers", "accelerate", "scikit-learn",
)  # fmt: skip


def processor() -> str:
    """The processor's name, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def describe() -> dict[str, Any]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "ssl_zoo"], capture_output=True, text=True, check=False
    )
    name = f"{processor()}, {os.cpu_count()} logical cores"
    return {
        "hardware": name,
        "slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit.strip() + ("+changes" if dirty.stdout else ""),
        "date": time.strftime("%Y-%m-%d"),
        "data": "real" if os.environ.get("SSL_ZOO_DATA") else "embedded",
    }
