"""Floating-point operations of the products in a piece of work, counted while it runs.

A multiplication and an addition are two operations. Products, convolutions and attention count, forward and
backward; what works element by element does not (torch.utils.flop_counter).
"""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count(work: Callable[[], object]) -> int:
    """FLOPs of calling `work` once."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
