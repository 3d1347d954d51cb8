"""A teacher: a copy of modules that follows them slowly and gets no gradient.

After each optimizer step, with momentum m,

    teacher <- m teacher + (1 - m) student

(Tarvainen & Valpola 2017, "Mean teachers", eq. 1; BYOL, MoCo and DINO do the same). Read as a half-life, m
is ln 2 / (1 - m) steps: 7 for 0.9, 69 for 0.99, 173 for 0.996. Published values assume 1e5 steps.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class Teacher(nn.ModuleList):
    """Copies of the students, which iterating gives in their order.

    While the objective trains, its batch norms normalise with the batch, as the students' do (running
    statistics of a slow average would be those of another network), and all else is in evaluation mode: no
    dropout, no stochastic depth. In evaluation mode the batch norms read their running statistics, which
    the teacher's own forward passes gather.

    Args:
        students: the modules to copy. What they share with each other, their copies share too.
    """

    def __init__(self, *students: nn.Module):
        super().__init__(copy.deepcopy(students))
        self._students = students  # in a tuple, so that they are no modules of this one
        self.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Teacher:
        super().train(False)
        self.training = mode
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.training = mode
        return self

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Follow the students by one step: average weights, and copy all buffers but those of batch norms.

        momentum: the share of the old weights that stays, in [0, 1].
        """
        students = nn.ModuleList(self._students)
        kept, new = ([weight.data for weight in of.parameters()] for of in (self, students))
        if kept:
            torch._foreach_lerp_(kept, new, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
        for module, follows in zip(self.modules(), students.modules(), strict=True):
            if not isinstance(module, _BatchNorm):
                for name, value in follows.named_buffers(recurse=False):
                    module.get_buffer(name).copy_(value)
