"""Schedules: the fraction of training done, t in [0, 1] -> a factor. Plain functions."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant() -> Schedule:
    return lambda t: 1.0


def cosine(warmup: float = 0.05, final: float = 0.0) -> Schedule:
    """Linear warm-up over the fraction `warmup`, then half a cosine down to `final`.

    Loshchilov & Hutter 2017 (SGDR), eq. 5, one cycle.
    """
    _check(warmup=warmup, final=final)

    def factor(t: float) -> float:
        if t < warmup:
            return t / warmup
        done = (t - warmup) / (1 - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def wsd(warmup: float = 0.05, decay: float = 0.2, final: float = 0.0) -> Schedule:
    """Warm-up, stable, decay (Hu et al. 2024, MiniCPM); the decay is 1 - sqrt (Hägele et al. 2024)."""
    _check(warmup=warmup, decay=decay, final=final)
    if warmup + decay > 1:
        raise ValueError(f"warmup {warmup} and decay {decay} are more than the whole training")

    def factor(t: float) -> float:
        if t < warmup:
            return t / warmup
        if t <= 1 - decay:
            return 1.0
        return final + (1 - final) * (1 - math.sqrt((t - 1 + decay) / decay))

    return factor


def _check(**fractions: float) -> None:
    for name, value in fractions.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is a fraction in [0, 1), not {value}")
