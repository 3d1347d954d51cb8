"""Teachers: a copy of modules that follows them slowly, and a trained module that stays as it is.

Neither gets a gradient. `Teacher` is the copy: after each optimizer step, with momentum m,

    teacher <- m teacher + (1 - m) student

(Tarvainen & Valpola 2017, "Mean teachers", eq. 1; BYOL, MoCo and DINO do the same). Read as a half-life, m
is ln 2 / (1 - m) steps: 7 for 0.9, 69 for 0.99, 173 for 0.996. Published values assume 1e5 steps.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
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

        Raises:
            ValueError: it is none.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is the share of the average that stays, from 0 to 1, not {momentum}")
        students = nn.ModuleList(self._students)
        kept, new = ([weight.data for weight in of.parameters()] for of in (self, students))
        if kept:
            torch._foreach_lerp_(kept, new, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
        for module, follows in zip(self.modules(), students.modules(), strict=True):
            if not isinstance(module, _BatchNorm):
                for name, value in follows.named_buffers(recurse=False):
                    module.get_buffer(name).copy_(value)


class Frozen(nn.Module):
    """A trained module that others learn from, and that never changes: it is always in evaluation mode.

    Its weights are neither parameters nor state of what holds it: optimizers and checkpoints do without them,
    however large it is. What is saved is their fingerprint, and a state that was saved beside other weights
    is refused, so that a run that goes on has the teacher that it began with.

    Args:
        module: it is not copied; its weights are frozen.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        # In a tuple, so that it is no module of this one.
        self._module = (module.requires_grad_(False).eval(),)
        self._fingerprint = fingerprint(module)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        return self._module[0](*inputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        """Bring the module, too, to the device or type that what holds this one is brought to."""
        self._module[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def get_extra_state(self) -> Tensor:
        return self._fingerprint

    def set_extra_state(self, state: Tensor) -> None:
        if state.item() != self._fingerprint.item():
            raise ValueError(
                "the teacher is another one than that of the run so far: give the same weights to go on"
            )


def fingerprint(module: nn.Module) -> Tensor:
    """A hash of the names and values of a module's state: (), int64."""
    found = hashlib.blake2b(digest_size=8)
    for name, value in module.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return torch.tensor(int.from_bytes(found.digest(), "little", signed=True))
