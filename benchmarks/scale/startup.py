"""Seconds of a run of two steps, of one process and of several: python benchmarks/scale/startup.py

`ssl-zoo pretrain` on scikit-learn's digits with trainer=cpu, then trainer=ddp_cpu with 2, 4 and 8 processes
of one thread each, which Lightning starts, or torchrun. Lightning starts the others when the first is ready
to train, torchrun all at once. On a machine with fewer cores they wait for each other's imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
WORDS = (
    *("ssl-zoo", "pretrain", "objective=simclr_small", "backbone=resnet_micro", "data=digits"),
    *("data.image_size=16", "batch_size=64", "budget.steps=2", "evaluate_every=0", "threads=1", "run=run"),
)


def run(folder: Path, *command: str) -> float:
    """Seconds that a command takes in a new folder beside the cache that all share."""
    work = folder / f"{time.time_ns()}"
    work.mkdir()
    variables = {"SSL_ZOO_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    variables["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, check=False, env=os.environ | variables
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - began


def main() -> None:
    print(f"{len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, *WORDS, "trainer=cpu")  # decodes the images
        print("| processes | Lightning | torchrun |\n|---:|---:|---:|")
        print(f"| 1 | {run(folder, *WORDS, 'trainer=cpu'):.1f} s | |", flush=True)
        for processes in (2, 4, 8):
            together = (*WORDS, "trainer=ddp_cpu", f"trainer.devices={processes}")
            torchrun = ("torchrun", f"--nproc-per-node={processes}", "--no-python")
            took = run(folder, *together), run(folder, *torchrun, *together)
            print(f"| {processes} | {took[0]:.1f} s | {took[1]:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
