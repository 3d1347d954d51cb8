"""One optimizer step of a recipe, to be timed or weighed, without a trainer: on random images, or on the
texts that the recipe reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_zoo.objectives._base import Batch, Objective

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
    """A function that makes one optimizer step of a recipe for images, on the same images each time."""
    import torch

    from ssl_zoo.compose.composition import build
    from ssl_zoo.compose.objective import build_objective
    from ssl_zoo.objectives._base import Batch

    cfg = build("pretrain", [*words, "data=cifar10", "trainer=cpu"])
    torch.manual_seed(0)
    objective = build_objective(cfg, None)
    x = torch.randint(0, 256, (rows, 3, SIZE, SIZE), dtype=torch.uint8)
    batch = Batch(x, y=torch.randint(10, (rows,)), index=torch.arange(rows))
    return stepping(cfg, objective, lambda number: batch)


def text_stepper(words: list[str]) -> Callable[[], None]:
    """A function that makes one optimizer step of a recipe for texts, on the next batch of its data."""
    import torch

    from ssl_zoo.compose.composition import build
    from ssl_zoo.compose.objective import build_objective
    from ssl_zoo.compose.step_cost import open_data, training_plan, training_rows

    cfg = build("pretrain", [*words, "trainer=cpu"])
    data, tokenizer = open_data(cfg)
    torch.manual_seed(0)
    objective = build_objective(cfg, tokenizer)
    rows = training_rows(cfg, data, tokenizer, objective)
    plan = training_plan(cfg, rows)
    return stepping(cfg, objective, lambda number: rows.read(plan.rows(number)))


def stepping(cfg: Any, objective: Objective[Any], batch: Callable[[int], Batch]) -> Callable[[], None]:
    """A function that makes one step of a recipe's optimizer on the batch of the next number."""
    from ssl_zoo.compose.gate import instantiate
    from ssl_zoo.noise import seed_noise

    full_rate()
    objective.train()
    optimizer = instantiate(cfg.optimizer, _convert_="all")(objective)
    steps = 0

    def step() -> None:
        nonlocal steps
        seed_noise(0, steps)
        optimizer.zero_grad()
        objective(batch(steps)).value.backward()
        optimizer.step()
        objective.advance(0.5)
        steps += 1

    return step


def spent(step: Callable[[], None]) -> float:
    """Processor seconds of a step."""
    began = time.process_time()
    step()
    return time.process_time() - began
