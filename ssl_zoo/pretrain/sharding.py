"""Weights, gradients and optimizer state divided over the processes: FSDP2, torch's `fully_shard`.

Every process holds an equal part of each weight. A block of a backbone is gathered whole when it is entered,
forwards and backwards, and let go afterwards; what is in no block (embeddings, heads) is gathered together,
once a step. Gradients are averaged as DistributedDataParallel averages them, so what holds for two processes
there holds here: two processes of N rows equal one of 2 N.

What no gradient reaches, such as queues, running statistics and frozen teachers (`teacher.Frozen`), is whole
in every process. A slow average of the weights (`teacher.Teacher`) is divided as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from ssl_zoo.distributed import divided_as
from ssl_zoo.objectives._base import Objective
from ssl_zoo.pretrain.recompute import blocks

T = TypeVar("T")
OLD = ("fsdp", "fsdp_cpu_offload")  # Lightning's names of FSDP1


class Everything(nn.Module):
    """The module whose forward pass anything is computed in that needs the weights of an objective.

    FSDP gathers a module's weights when it is called. An objective is used in more ways than one (its loss,
    the features of its backbone), so what is called is this, with a function to run.
    """

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective

    def forward(self, do: Callable[[], T]) -> T:
        return do()


def shard(objective: Objective, mesh: DeviceMesh, half: bool = False) -> Everything:
    """Divide an objective's weights over the processes of a mesh of one dimension, in place.

    Args:
        objective: its optimizer is made afterwards.
        mesh: the processes.
        half: whether blocks are gathered in bfloat16, to compute under autocast; gradients are summed in
            float32.

    Returns:
        What the objective is used through from now on.

    Raises:
        ValueError: a weight that cannot be divided.
    """
    if scalars := [name for name, p in objective.named_parameters() if not p.dim()]:
        raise ValueError(
            f"trainer=fsdp2 divides weights along their first axis, and {type(objective).__name__} has one "
            f"without any: {', '.join(scalars)}. Make it a tensor of one number, torch.zeros(1)"
        )
    objective.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]  # FSDP takes no other
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,
    )
    for block in blocks(objective):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    root = Everything(objective)
    root.train(objective.training)
    fully_shard(root, mesh=mesh)  # heads compute in float32: their weights stay so
    return root


def let_go(root: Everything) -> None:
    """Keep no more than this process's part of what was gathered, where no backward pass follows."""
    assert isinstance(root, FSDPModule)
    root.reshard()


def refuse_fsdp1(strategy: object) -> None:
    """Raise ValueError for Lightning's first FSDP, which wraps modules and flattens their weights."""
    if isinstance(strategy, FSDPStrategy) or (isinstance(strategy, str) and strategy in OLD):
        raise ValueError(
            "trainer.strategy=fsdp is FSDP1: it flattens the weights of a module into one, so that names, "
            "shapes, decay of matrices alone and layer-wise rates are lost, and torch has deprecated it. "
            "Take trainer=fsdp2"
        )


def whole(tensor: Tensor) -> Tensor:
    """A tensor as one process would have it (a collective call where it is divided)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module on the CPU, as one process would have it, by name (a collective call)."""
    state = module.state_dict()
    return {name: whole(value.detach()).to("cpu", copy=True) for name, value in state.items()}


def load_whole(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a module, divided or not, a state as `whole_state` gives it."""
    now = module.state_dict()
    module.load_state_dict({name: divided_as(value, now[name]) for name, value in state.items()})


def finite_everywhere(parameters: Sequence[Tensor]) -> Tensor:
    """Which of these weights are finite in all of their parts: (N,) bool (all processes have to call it)."""
    local = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    bad = torch.stack([(~torch.isfinite(p)).any() for p in local]).int()
    if any(isinstance(p, DTensor) for p in parameters):
        dist.all_reduce(bad, dist.ReduceOp.MAX)
    return bad == 0
