"""Schedules: functions of the fraction of training that is done, t in [0, 1], to a factor or a value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, overload

import torch
from torch import Tensor

Schedule = Callable[[float], float]


def constant() -> Schedule:
    """Always 1."""
    return lambda t: 1.0


def cosine(warmup: float = 0.05, final: float = 0.0) -> Schedule:
    """Linear warm-up over the fraction `warmup`, then half a cosine down to `final`.

    Loshchilov & Hutter 2017 (SGDR), eq. 5, one cycle.

    Raises:
        ValueError: `warmup` or `final` is not in [0, 1).
    """
    _check(warmup=warmup, final=final)

    def factor(t: float) -> float:
        if t < warmup:
            return t / warmup
        done = (t - warmup) / (1 - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


class Ramp(Protocol):
    """t -> value. A tensor gives a tensor, and the host reads nothing of it."""

    @overload
    def __call__(self, t: float) -> float: ...
    @overload
    def __call__(self, t: Tensor) -> Tensor: ...


def ramp(start: float, end: float, shape: Literal["cosine", "linear"] = "cosine", until: float = 1.0) -> Ramp:
    """From `start` to `end` over the first part of training, up to `until`; `end` from there on.

    With shape "cosine" and until 1 it is BYOL's rule for its momentum (Grill et al. 2020, section 3.2),
    end - (end - start) (cos(pi t) + 1) / 2.

    Args:
        start, end: the values; of a `Schedule`, factors.
        shape: "cosine" (level at both ends) or "linear".
        until: fraction of training in (0, 1].

    Raises:
        ValueError: another shape, or a fraction out of range.
    """
    if shape not in ("cosine", "linear"):
        raise ValueError(f"shape={shape!r} is neither cosine nor linear")
    if not 0 < until <= 1:
        raise ValueError(f"until is a fraction in (0, 1], not {until}")

    def value(t: Any) -> Any:
        tensor = isinstance(t, Tensor)
        done = (t / until).clamp_max(1) if tensor else min(t / until, 1.0)
        if shape == "cosine":
            done = 0.5 - 0.5 * (torch.cos(math.pi * done) if tensor else math.cos(math.pi * done))
        return start + (end - start) * done

    return value


def wsd(warmup: float = 0.05, decay: float = 0.2, final: float = 0.0) -> Schedule:
    """Warm-up, stable, decay (Hu et al. 2024, MiniCPM); the decay is 1 - sqrt (Hägele et al. 2024).

    Args:
        warmup: fraction of training over which the factor rises from 0 to 1.
        decay: fraction of training over which it falls, at the end.
        final: the factor at the end.

    Raises:
        ValueError: one of them is not in [0, 1), or warm-up and decay together are longer than the training.
    """
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
