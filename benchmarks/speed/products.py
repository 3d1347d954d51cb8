"""How much of a step is matrix products: the same products are timed alone, in the same process.

One step is watched at torch's dispatcher. Every matrix product, convolution and attention is noted with
the shapes and strides of its arguments, forward and backward. Each is then run again by itself on random
numbers. Their time over the step's time is the share of the step that the machine's own matrix
rate accounts for; what is missing to 1 is left to win.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.convolution.default,
    aten.convolution_backward.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
}


class _Layout(tuple):
    """(shape, strides, dtype) of an argument: enough to make one like it."""

    __slots__ = ()


def _layout(value: Any) -> Any:
    return _Layout((tuple(value.shape), value.stride(), value.dtype)) if isinstance(value, Tensor) else value


def _like(value: Any) -> Any:
    if not isinstance(value, _Layout):
        return value
    shape, strides, dtype = value
    size = 1 + sum((n - 1) * abs(s) for n, s in zip(shape, strides, strict=True)) if all(shape) else 0
    flat = torch.rand(size).to(dtype)
    return flat.as_strided(shape, strides)


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in PRODUCTS:
            frozen = lambda tree: tree_map(_layout, tree)  # noqa: E731
            self.calls[func, _key(frozen(args)), _key(frozen(kwargs or {}))] += 1
        return func(*args, **(kwargs or {}))


def _key(tree: Any) -> Any:
    """Lists and dicts as tuples, so that equal calls count together."""
    if isinstance(tree, _Layout):
        return tree
    if isinstance(tree, dict):
        return ("dict", tuple((k, _key(v)) for k, v in sorted(tree.items())))
    if isinstance(tree, list | tuple):
        return ("list", tuple(_key(v) for v in tree))
    return tree


def _tree(key: Any) -> Any:
    if (
        isinstance(key, tuple)
        and not isinstance(key, _Layout)
        and len(key) == 2
        and key[0] in ("dict", "list")
    ):
        kind, items = key
        return {k: _tree(v) for k, v in items} if kind == "dict" else [_tree(v) for v in items]
    return _like(key)


def share(
    step: Callable[[], object], seconds_per_step: float | None = None, repeats: int = 5
) -> dict[str, float]:
    """What a step's matrix products cost alone.

    Args:
        step: one whole step, warmed up.
        seconds_per_step: measured elsewhere; None: measured here.

    Returns:
        products_ms: all products of one step, run alone. gflop: their floating-point operations.
        gflops: rate of the products alone. share: products / step.
    """
    if seconds_per_step is None:
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        seconds_per_step = median(times)
    with _Watch() as watch:
        step()
    with FlopCounterMode(display=False) as counter:
        step()
    total = 0.0
    with torch.no_grad():
        for (func, args, kwargs), count in watch.calls.items():
            arguments, options = _tree(args), _tree(kwargs)
            times = []
            for _ in range(repeats):
                began = time.perf_counter()
                func(*arguments, **options)
                times.append(time.perf_counter() - began)
            total += count * median(times[1:])
    gflop = counter.get_total_flops() / 1e9
    return {
        "products_ms": 1000 * total,
        "step_ms": 1000 * seconds_per_step,
        "gflop": gflop,
        "gflops": gflop / total if total else 0.0,
        "share": total / seconds_per_step,
    }
