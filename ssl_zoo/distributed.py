"""What changes when a batch is divided over processes.

Everything here is the identity (or the plain mean) on one process. There is one differentiable `gather`: its
backward *sums* the gradients of all processes. With the averaging of torch's DistributedDataParallel that is
exactly the gradient of the undivided batch. Two forms of a loss are exact with it, as long as every process
does the same (tests/objectives/test_distributed.py checks value and gradient): each process computes the loss
of its own rows against everybody's, or all compute the same loss of everybody's rows.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among those that train together, from 0."""
    return dist.get_rank() if world() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)  # others may be handed the same tensor
        dist.all_reduce(grad)
        return grad.chunk(world())[rank()]


def gather(x: Tensor) -> Tensor:
    """Rows of all processes, in order of rank: (N, ...) -> (world * N, ...), with gradient.

    Every process has to call it, with as many rows.
    """
    return _Gather.apply(x) if world() > 1 else x  # pyright: ignore[reportReturnType]


def everybody(x: Tensor) -> Tensor:
    """As `gather`, without gradient."""
    return gather(x.detach())


def of_first(x: Tensor) -> Tensor:
    """What the first process has, on all of them, to the bit: (N, ...) -> the same, without gradient.

    Every process has to call it, with as many rows.
    """
    return everybody(x)[: len(x)]


def total(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, of the same shape, without gradient."""
    summed = x.detach().clone()
    if world() > 1:
        dist.all_reduce(summed)
    return summed


def divided_as(value: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, as a weight of its shape is held: a part in each process
    where FSDP2 divides the weight, else as it is."""
    if not hasattr(weight, "device_mesh") or hasattr(value, "device_mesh") or value.shape != weight.shape:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor  # its imports take long

    assert isinstance(weight, DTensor)
    value = value.to(weight.device)
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)


def shares(where: Tensor) -> Tensor:
    """What each value counts in the mean over those of all processes that `where` chooses.

    Args:
        where: (...) bool, or numbers of at least 0 that say how much a value weighs.

    Returns:
        (...) float32. The shares of a process sum to 1 on average over processes, which is what averaged
        gradients need; all are 0 where nothing is chosen anywhere.
    """
    weight = where.float()
    return weight * (world() / total(weight.sum()).clamp_min(torch.finfo(weight.dtype).tiny))


def mean(values: Tensor, where: Tensor) -> Tensor:
    """This process's part of the mean of the chosen values of all processes, with gradient.

    The parts average over processes to the mean itself. Accumulated parts of a batch do not, as no part knows
    how many values the others choose: an objective that uses this declares `whole_batch`.

    Args:
        values: (...) of this process. where: which of them count, as in `shares`.
    """
    return (values * shares(where)).sum()
