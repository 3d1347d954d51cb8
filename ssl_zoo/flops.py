"""Floating-point operations of a piece of work, counted while it runs.

torch's counter adds up the matrix products and convolutions that reach its dispatcher, forward and backward,
2 for each multiply-add; elementwise work and the optimizer are not counted. It sees into hand-written
gradients, because they call the same products, but it knows only some of their forms: the in-place and the
matrix-vector ones are added here. Attention counts as it is computed: a causal mask saves nothing unless rows
are cut into bands, and a flash backward pass multiplies queries and keys once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def added_product(_: Sequence[int], a: Sequence[int], b: Sequence[int], **__: Any) -> int:
    """Operations of c + a @ b, of the shapes of a (..., M, K) and of b (..., K, N) or (K,)."""
    return product(a, b)


def product(a: Sequence[int], b: Sequence[int], **_: Any) -> int:
    """Operations of a @ b, of the shapes of a (..., M, K) and of b (..., K, N) or (K,)."""
    return 2 * prod(a) * (b[-1] if len(b) > 1 else 1)


aten = torch.ops.aten
# Products that torch's counter would take for elementwise work. token_scores.py adds up the gradient of the
# output matrix by `addmm_`, which is a third of the work of scoring.
MORE = {
    aten.addmm_: added_product,
    aten.baddbmm_: added_product,
    aten.addmv: added_product,
    aten.mv: product,
}


def count(work: Callable[[], object]) -> int:
    """The floating-point operations of `work()`.

    Count work in float32: the attention of half precision on CUDA is one that torch's counter does not know.
    """
    with FlopCounterMode(display=False, custom_mapping=MORE) as counter:
        work()
    return counter.get_total_flops()


def step_flops(loss: Callable[[], Tensor]) -> int:
    """The floating-point operations of `loss()` and of its backward pass; gradients are left in place.

    Args:
        loss: makes one scalar from one batch, such as `lambda: objective(batch).value`.
    """
    return count(lambda: loss().backward())
