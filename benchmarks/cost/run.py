"""What a training step of every image objective costs against SimCLR's on the same backbone: one core, no
device.

    python benchmarks/cost/run.py [NAME ...]    # recipes configs/experiment/cifar10_NAME.yaml; default: all

Left out are CLIP, which reads captions, and recipes that need a run to learn from (objective.teacher).

Each recipe is built as `ssl-zoo pretrain experiment=cifar10_NAME` builds it, in a process of its own, on
a batch of 256 random images of 32 pixels. Time: processor seconds of forward, backward, AdamW and
`advance`, in turns with SimCLR (objective=simclr_small), ratio of the medians of ROUNDS steps. Memory:
how far the process grows above what it held before the step, its peak against SimCLR's. Results are
written to results.json beside this file; docs/objectives is drawn from it.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import sys
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from resident import peak
from stepping import BATCH, spent, stepper

ROUNDS = 3
PEAKS: dict[str, float] = {}  # SimCLR's, by backbone
RESULTS = Path(__file__).with_name("results.json")


def recipes() -> list[str]:
    from ssl_zoo.compose.places import options

    return [name.removeprefix("cifar10_") for name in options("experiment") if name.startswith("cifar10_")]


def lacking(name: str) -> list[str]:
    """The keys that a recipe leaves open, such as the run that it learns from."""
    from ssl_zoo.compose.composition import build, flatten

    cfg = build("pretrain", [f"experiment=cifar10_{name}"])
    return [key for key, value in flatten(cfg).items() if value == "???"]


def first_step(words: list[str]) -> float:
    """MiB that the first step of a recipe needs, gradients and the optimizer's moments included."""
    import torch

    torch.set_num_threads(1)
    stepper(words, rows=128)()  # what is loaded and compiled once
    # What that has freed goes back to the system: memory that is there already would not be seen to grow.
    ctypes.CDLL(None).malloc_trim(0)
    return peak(stepper(words))


def seconds(words: list[str], beside: list[str]) -> tuple[float, float]:
    """Median processor seconds of a step of both, in turns."""
    import torch

    torch.set_num_threads(1)
    both = [stepper(words), stepper(beside)]
    times: list[list[float]] = [[], []]
    for number in range(ROUNDS + 1):
        for step, taken in zip(both, times, strict=True):
            took = spent(step)
            if number > 0:
                taken.append(took)
    return median(times[0]), median(times[1])


def measured(name: str) -> dict[str, Any]:
    """The row of a recipe."""
    from ssl_zoo.compose.composition import compose

    words = [f"experiment=cifar10_{name}"]
    backbone = compose("pretrain", words).choices["backbone"]
    beside = ["objective=simclr_small", f"backbone={backbone}"]
    alone = multiprocessing.get_context("spawn")
    with alone.Pool(1, maxtasksperchild=1) as pool:
        times = pool.apply(seconds, (words, beside))
        own = pool.apply(first_step, (words,))
        PEAKS[backbone] = PEAKS.get(backbone) or pool.apply(first_step, (beside,))
    return {
        "backbone": backbone,
        "seconds": round(times[0], 4),
        "time": round(times[0] / times[1], 2),
        "memory": round(own / PEAKS[backbone], 2),
        "megabytes": round(own),
    }


def main(names: list[str]) -> None:
    from ssl_zoo.pretrain.environment import processor

    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows = known.get("rows", {})
    for name in names or recipes():
        if name == "clip":
            print(f"{name:<26} left out: it reads captions")
            continue
        if missing := lacking(name):
            print(f"{name:<26} left out: it needs {', '.join(missing)}")
            continue
        rows[name] = measured(name)
        print(f"{name:<26} {rows[name]}", flush=True)
        found = {
            "processor": processor(),
            "batch": BATCH,
            "rounds": ROUNDS,
            "rows": dict(sorted(rows.items())),
        }
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
