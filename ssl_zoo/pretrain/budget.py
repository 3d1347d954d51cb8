"""How long to train: one of steps, epochs, samples, tokens or minutes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from numbers import Real

import torch
import torch.distributed as dist

from ssl_zoo.data.plan import Plan
from ssl_zoo.data.rows import Rows
from ssl_zoo.distributed import world

ENDLESS = 2**40


@dataclass(frozen=True)
class Budget:
    """How long to train, in one of these units; exactly one is given.

    Args:
        steps: of the optimizer.
        epochs: passes over the rows; parts of one may be asked for.
        samples: rows, over all processes.
        tokens: of text, over all processes.
        minutes: of wall-clock time spent training, over all resumptions.

    Raises:
        ValueError: none or several are given, or one that is no positive number.
    """

    steps: int | None = None
    epochs: float | None = None
    samples: int | None = None
    tokens: int | None = None
    minutes: float | None = None

    def __post_init__(self):
        given = self.given()
        if len(given) != 1:
            raise ValueError(
                f"a budget is exactly one of {', '.join(f.name for f in fields(self))}, for example "
                f"budget.minutes=5; given: {given or 'none'}"
            )
        name, value = next(iter(given.items()))
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"budget.{name} is a number, not {value!r}")
        if name not in ("epochs", "minutes"):
            if value != int(value):
                raise ValueError(f"budget.{name} is a whole number, not {value!r}")
            object.__setattr__(self, name, int(value))  # 1e6 is a float
        if value <= 0:
            raise ValueError(f"budget.{name} must be positive, not {value}")

    def __str__(self) -> str:
        """As it is written on the command line."""
        return "".join(f"budget.{k}={v}" for k, v in self.given().items())

    def given(self) -> dict[str, float]:
        """The one that is given, by its name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def total_steps(self, plan: Plan, rows: Rows) -> int:
        """Optimizer steps, at least 1; ENDLESS when time decides. Raises ValueError for tokens of images."""
        if self.minutes is not None:
            return ENDLESS
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return max(1, round(self.epochs * plan.steps_per_epoch))
        if self.tokens is not None:
            if rows.unit != "tokens":
                raise ValueError("budget.tokens is for text; images take steps, epochs, samples or minutes")
            return max(1, self.tokens // (plan.batch * rows.units_per_row))
        assert self.samples is not None
        return max(1, self.samples // plan.batch)


class Clock:
    """How far training is: by steps, or by time where the budget is in minutes."""

    def __init__(self, budget: Budget, steps: int):
        self.limit = None if budget.minutes is None else 60 * budget.minutes
        self.steps = steps
        self.spent = 0.0  # seconds of earlier sessions; checkpointed
        self.started: float | None = None

    def start(self) -> None:
        """Count time from now on."""
        self.started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds spent training, those of earlier sessions included."""
        return self.spent + (0.0 if self.started is None else time.monotonic() - self.started)

    def fraction(self, step: float, device: torch.device) -> float:
        """Fraction of training done after `step` steps; the same on every process (a collective call)."""
        if self.limit is None:
            return min(1.0, step / self.steps)
        seconds = torch.tensor(self.elapsed(), device=device)
        if world() > 1:
            dist.broadcast(seconds, 0)
        return min(1.0, seconds.item() / self.limit)
