"""Activation checkpointing: what a block computed is forgotten, and computed again going backwards.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174. Memory for activations
falls to that of one block and of the inputs of all; a step computes the blocks' forward pass twice. Loss and
gradients are the same to the bit: dropout is drawn again from the same state.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.objectives._base import Objective
from ssl_zoo.products import as_now


def blocks(objective: Objective) -> list[nn.Module]:
    """The blocks of all backbones in an objective, those of teachers too, that have weights; each once."""
    found: dict[int, nn.Module] = {}
    for module in objective.modules():
        if isinstance(module, Backbone):
            found |= {id(block): block for block in module.blocks()}
    return [block for block in found.values() if next(block.parameters(), None) is not None]


def recompute(objective: Objective) -> None:
    """Have every block of an objective's backbones computed twice, in place.

    Raises:
        ValueError: there are no blocks, or they have batch norms, which would count each batch twice.
    """
    found = blocks(objective)
    name = type(objective.backbone).__name__
    if not found:
        raise ValueError(f"recompute=true forgets what blocks compute, and {name} has none: leave it out")
    if any(isinstance(part, _BatchNorm) for block in found for part in block.modules()):
        raise ValueError(
            f"recompute=true computes blocks twice, and the batch norms of {name} would count each batch "
            "twice: leave it out, or take a backbone without batch norm (any ViT, any transformer)"
        )
    for block in found:
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, context_fn=lambda: (nullcontext(), as_now())
        )
