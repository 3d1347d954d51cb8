"""How cost grows: with images in the store, sequence length, vocabulary, batch and processes.

Each curve is one fresh process that takes its points one after the other: a few seconds of work each,
after a first piece that is not counted. What is noted is work done per second, unless the point says
otherwise, so a flat line is a cost that does not grow.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from duel import Case, Gate, Side, alone

SECONDS = 2.0


def rate(piece: Callable[[], object], units: float) -> float:
    """Units per second of a piece of work repeated for some seconds; the first is not counted."""
    piece()
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < SECONDS:
        piece()
        count += 1
    return units * count / (time.perf_counter() - began)


def images_in_store(gate: Gate) -> None:
    from cases import memory

    from ssl_zoo.data.plan import Plan

    for count in (10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            rows = memory.store(folder, count)
            plan, steps = Plan(count, memory.BATCH, seed=0), iter(range(10**9))
            gate.note(
                **{str(count): rate(lambda p=plan, s=steps, r=rows: r.read(p.rows(next(s))), plan.batch)}
            )
    gate(0)


def sequence_length(gate: Gate) -> None:
    from cases.material import TEXT, recipe, step_of

    tokens = 4096
    for length in (128, 256, 512, 1024, 2048, 4096):
        parts = recipe(
            "objective=next_token",
            "backbone=transformer_micro",
            f"data={TEXT}",
            "tokenizer.size=4096",
            f"context={length}",
            f"batch_size={tokens // length}",
        )
        gate.note(**{str(length): rate(step_of(parts), tokens)})
    gate(0)


def vocabulary(gate: Gate) -> None:
    """Tokens per second of the head, and the most memory it takes."""
    from cases import memory
    from resident import peak

    tokens, found = 1024, {}
    for ids in (8192, 16_384, 32_768, 65_536, 131_072):
        inputs = memory.head_inputs(ids, tokens, memory.WIDTH)
        piece = lambda given=inputs: memory.library(*given).backward()  # noqa: E731
        found[f"{ids} MiB"] = peak(piece)
        found[str(ids)] = rate(piece, tokens)
    gate.note(**found)
    gate(0)


def batch(gate: Gate) -> None:
    from cases.images import SIMCLR
    from cases.material import recipe, step_of

    for size in (32, 64, 128, 256, 512):
        parts = recipe(*SIMCLR, f"batch_size={size}")
        gate.note(**{str(size): rate(step_of(parts), size)})
    gate(0)


def processes(gate: Gate) -> None:
    """The command line itself, on one process and on two, a thread each; the rate is what it logs."""
    from cases.images import SIMCLR

    for count, trainer in ((1, "cpu"), (2, "ddp_cpu")):
        with tempfile.TemporaryDirectory() as folder:
            words = [
                *SIMCLR,
                f"trainer={trainer}",
                "+data.validation_fraction=0.0",
                "budget.minutes=null",
                "budget.steps=24",
                "log_every=4",
                "threads=1",
                f"run={folder}/run",
            ]
            script = Path(sys.executable).with_name("ssl-zoo")  # DDP starts its second process by it
            ended = subprocess.run(
                [sys.executable, script, "pretrain", *words],
                capture_output=True,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                check=False,
            )
            if ended.returncode:
                raise RuntimeError(ended.stderr[-2000:])
            log = next(Path(folder).glob("run/logs/csv/*/metrics.csv"))
            with log.open() as file:
                logged = [row.get("images_per_second") for row in csv.DictReader(file)]
            rates = [float(value) for value in logged if value]
        gate.note(**{str(count): median(rates[1:])})
    gate(0)


@dataclass(frozen=True)
class Curve:
    """title of a panel, what is varied, what is counted, and the side that takes the points."""

    title: str
    x: str
    unit: str
    side: Side
    threads: int = 2


CURVES = {
    "images": Curve("reading a store", "images in the store", "images/s", images_in_store, 1),
    "length": Curve("next token, 4,096 tokens a batch", "context", "tokens/s", sequence_length),
    "vocabulary": Curve("token head, forward and backward", "ids", "tokens/s", vocabulary),
    "batch": Curve("SimCLR, ResNet of 0.7 M", "batch", "images/s", batch),
    "processes": Curve("SimCLR, one thread a process", "processes", "images/s", processes),
}


def run_curve(name: str) -> dict[str, Any]:
    """One curve: {"points": {x: rate}, "mib": {x: peak}} and what its panel says."""
    curve = CURVES[name]
    began = time.monotonic()
    case = Case(curve.title, curve.unit, "", {name: curve.side}, 0.0, "", "", curve.threads)
    noted = alone(case)[name]
    points = {x: value for x, value in noted.items() if x.isdigit()}
    mib = {x.removesuffix(" MiB"): value for x, value in noted.items() if x.endswith(" MiB")}
    for x, value in points.items():
        print(f"    {curve.x} {int(x):9,}   {value:12,.0f} {curve.unit}", flush=True)
    seconds = time.monotonic() - began
    print(f"growth, {name}: {seconds:.0f} s\n", flush=True)
    shown = {"title": curve.title, "x": curve.x, "unit": curve.unit, "threads": curve.threads}
    return shown | {"points": points, "mib": mib, "seconds": round(seconds)}
