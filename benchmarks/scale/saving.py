"""How long training stands still for a checkpoint that is written at once, or by a thread (save_async=true).

    python benchmarks/scale/saving.py          # 36 M parameters; a minute and a half
    python benchmarks/scale/saving.py --tiny

Next token with AdamW on one thread, a checkpoint every fifth step. Standing still is what the callback that
saves takes in the training loop. The steps between checkpoints tell whether writing beside them slows them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_zoo import optim
from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, pretrain
from ssl_zoo.pretrain.saver import Checkpoint

IDS, ROWS, LENGTH, EVERY, STEPS = 8192, 4, 128, 5, 31


class Random:
    """Rows of random ids."""

    unit, classes, y, units_per_row, fingerprint = "tokens", (), None, LENGTH, "random"

    def __len__(self) -> int:
        return 4096

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        draw = np.random.default_rng([epoch, *index.tolist()])
        ids = torch.from_numpy(draw.integers(3, IDS, (len(index), LENGTH + 1)))
        return Batch(ids, torch.zeros_like(ids))


def measure(width: int, depth: int, save_async: bool) -> tuple[float, float, float]:
    """Seconds of a checkpoint in the training loop, seconds of a step, MiB of a checkpoint."""
    torch.manual_seed(0)
    objective = NextToken(TextTransformer(Vocabulary(size=IDS), width=width, depth=depth, heads=8))
    module = Pretraining(objective, partial(optim.adamw, lr=1e-4), Budget(steps=STEPS))
    stood: list[float] = []
    ends: list[float] = []
    save, after = Checkpoint.save, Checkpoint.after_step

    def timed(self: Checkpoint, *args: Any) -> None:
        begin = time.perf_counter()
        save(self, *args)
        stood.append(time.perf_counter() - begin)

    def noted(self: Checkpoint, *args: Any) -> None:
        after(self, *args)
        ends.append(time.perf_counter())

    Checkpoint.save, Checkpoint.after_step = timed, noted
    try:
        with tempfile.TemporaryDirectory() as folder:
            pretrain(
                module,
                PretrainingData(Random(), ROWS, 0),
                Path(folder) / "run",
                save_every=EVERY,
                save_async=save_async,
                log_every=0,
                accelerator="cpu",
                devices=1,
            )
            size = next(Path(folder).glob("run/checkpoints/*.ckpt")).stat().st_size
    finally:
        Checkpoint.save, Checkpoint.after_step = save, after
    steps = [b - a for i, (a, b) in enumerate(pairwise(ends), 2) if i % EVERY]
    return statistics.median(stood[: STEPS // EVERY]), statistics.median(steps), size / 2**20


def main() -> None:
    torch.set_num_threads(1)
    width, depth = (32, 1) if "--tiny" in sys.argv[1:] else (512, 10)
    for words, save_async in (("at once", False), ("by a thread", True)):
        stood, step, size = measure(width, depth, save_async)
        print(
            f"written {words}: training stands still for {stood:.2f} s a checkpoint of {size:,.0f} MiB; "
            f"a step takes {step:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
