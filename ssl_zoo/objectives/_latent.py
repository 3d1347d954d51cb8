"""What objectives share that predict what a teacher, a slow average, makes of hidden parts of its input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.schedules import Ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import take


class Foretold(NamedTuple):
    """What a student says of hidden places, with M masks of each sample, whose rows follow one another.

    whole: (B, N, D) what the teacher says of all places.
    hidden: (B * M, N) bool, what the student did not see.
    at: (B * M, K) places it is asked for. valid: which of them count, bool of that shape.
    drawn: (B * M, K, D) what it says is there."""

    whole: Tensor
    hidden: Tensor
    at: Tensor
    valid: Tensor
    drawn: Tensor


class LatentPrediction(Objective[TokenBackbone]):
    """A subclass sets these, and says what is predicted of a crop or a text.

    Attributes:
        view: images to training crops; it leaves texts as they are.
        teacher: which follows the student after each step.
        momentum: share of the teacher that stays, by the fraction of training done.
    """

    view: Callable[[Tensor], Tensor]
    teacher: Teacher
    momentum: Ramp

    @property
    def slow(self) -> TokenBackbone:
        """The teacher's backbone."""
        return self.teacher[0]  # pyright: ignore[reportReturnType]

    @abstractmethod
    def foretell(self, x: Tensor, segments: Tensor | None = None) -> Foretold:
        """Of crops (B, C, H, W) or ids (B, T)."""

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))

    def show(self, batch: Batch) -> Pictures | None:
        """Nothing of texts. Of several masks of an image, the first."""
        if self.backbone.patch is None:
            return None
        x, patch = self.view(batch.x), self.backbone.patch
        whole, *found = self.foretell(x)
        hidden, at, _, drawn = (part[:: len(part) // len(x)] for part in found)
        true = take(whole, at)  # (B, K, D)
        variance = (true - true.mean((0, 1))).square().sum(-1).mean().clamp_min(1e-12)
        light = (1 - (drawn - true).square().sum(-1) / variance).clamp(0, 1)  # (B, K)
        told = painted(x, patch, at, light[..., None].expand(-1, -1, x.shape[1] * patch**2))
        cells = hidden.unflatten(1, (x.shape[2] // patch, -1))[:, None]  # (B, 1, rows, columns)
        seen = x.where(~cells.repeat_interleave(patch, 2).repeat_interleave(patch, 3), 0.5)
        note = (
            "A training crop, what is seen of it, and how well the features of other patches are predicted: "
            "black is no better than the mean of all, white is without an error."
        )
        return Pictures(note, {"crop": x, "seen": seen, "predicted": told})


def all_but(seen: Tensor, count: int) -> Tensor:
    """Which of `count` places are none of these: (B, K) int64 -> (B, count) bool."""
    return torch.ones(len(seen), count, dtype=torch.bool, device=seen.device).scatter(1, seen, False)
