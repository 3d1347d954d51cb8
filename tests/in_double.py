"""Every objective on every kind of backbone that it takes, in double precision, far from its start."""

from __future__ import annotations

from typing import Any

import torch
import zoo_backbones
from alike import some_of
from torch import nn

from ssl_zoo.contract.pair import ROWS
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.views.view import View

ZOO = {f"{cls.__name__} {kind}": (cls, kind) for cls, kind in zoo_backbones.pairs()}
# Of each objective one kind of backbone; the others are tried by `make slow`. Contract and pairs of processes
# take the last that it names, divided weights and resumption the first.
FIRST = tuple(name for name, (cls, kind) in ZOO.items() if kind == cls.takes[0])
LAST = tuple(name for name, (cls, kind) in ZOO.items() if kind == cls.takes[-1])


def each(chosen: tuple[str, ...]) -> list[Any]:
    """The names of ZOO for a test, all but the chosen ones for `make slow` alone."""
    return some_of(ZOO, chosen)


def in_double(view: nn.Module, images: Any, shown: torch.Tensor) -> torch.Tensor:
    """A view's images in double precision, as the weights are."""
    return shown.double()


def build(name: str) -> tuple[Objective, Batch]:
    """The objective, in training; its rows of text end in padding of unequal lengths."""
    torch.set_num_threads(1)
    cls, kind = ZOO[name]
    objective = zoo_backbones.build(cls, zoo_backbones.backbone(kind)).double().train()
    for module in objective.modules():
        if isinstance(module, View):
            module.register_forward_hook(in_double)
    with torch.no_grad():  # nothing starts at zero, so that every gradient counts
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = zoo_backbones.batch(objective, ROWS, length=20)
    if batch.segments is not None:
        objective.eval()  # the noise inside a model, dropout, belongs to a process
        for row in range(ROWS):
            batch.segments[row, batch.x.shape[1] - row :] = -1
    return objective, batch
