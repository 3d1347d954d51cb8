"""What a run or a figure was computed with: versions, hardware, the commit and the command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import ssl_zoo


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit(file: Path) -> str | None:
    """The commit of the repository that keeps this package, at its top, with `file` in it.

    None where the package is installed, also below a repository of somebody else, and where there is no git.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        ours = Path(git("rev-parse", "--show-toplevel")) == file.resolve().parents[2]
        return git("rev-parse", "HEAD") if ours else None
    except (OSError, subprocess.CalledProcessError):
        return None


def environment() -> dict[str, Any]:
    """Versions, hardware and the command, as found."""
    names = ["torch", "torchvision", "lightning", "timm", "transformers", "tokenizers", "hydra-core", "numpy"]
    names += ["scipy", "scikit-learn", "gensim"]
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "ssl_zoo": ssl_zoo.__version__,
        "commit": commit(Path(__file__)),
        "python": platform.python_version(),
        "versions": versions,
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": devices,
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
