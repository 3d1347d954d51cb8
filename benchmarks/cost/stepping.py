"""One optimizer step of a recipe on random images, to be timed or weighed: no data set, no trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache

BATCH, SIZE = 256, 32  # images, and their side in pixels


@cache
def full_rate() -> ExitStack:
    """For the rest of the process, what the trainer has while it trains."""
    import torch

    from ssl_zoo.products import at_full_rate

    rate = ExitStack()
    rate.enter_context(at_full_rate(torch.device("cpu")))
    return rate


def stepper(words: list[str], rows: int = BATCH) -> Callable[[], None]:
    """A function that makes one optimizer step of a recipe, on the same images each time."""
    import torch

    from ssl_zoo.compose.composition import build
    from ssl_zoo.compose.objective import build_objective
    from ssl_zoo.noise import seed_noise
    from ssl_zoo.objectives._base import Batch

    full_rate()
    cfg = build("pretrain", [*words, "data=cifar10", "trainer=cpu"])
    torch.manual_seed(0)
    objective = build_objective(cfg, None).train()
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 1e-4, fused=True)
    x = torch.randint(0, 256, (rows, 3, SIZE, SIZE), dtype=torch.uint8)
    batch = Batch(x, y=torch.randint(10, (rows,)), index=torch.arange(rows))
    steps = 0

    def step() -> None:
        nonlocal steps
        seed_noise(0, steps)
        optimizer.zero_grad()
        objective(batch).value.backward()
        optimizer.step()
        objective.advance(0.5)
        steps += 1

    return step


def spent(step: Callable[[], None]) -> float:
    """Processor seconds of a step."""
    began = time.process_time()
    step()
    return time.process_time() - began
