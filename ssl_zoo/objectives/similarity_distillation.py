"""Similarity distillation: SEED (Fang et al. 2021, arXiv:2101.04731, eq. 3-5).

A small network learns which earlier images a trained one finds an image like. With z and t the directions of
student and teacher for one view of image i, and d_1 .. d_K the teacher's of earlier images, d_0 = t_i,

    p_ij = softmax over j of t_i . d_j / T_t,   q_ij = softmax over j of z_i . d_j / T_s
    L = - mean_i sum_j p_ij log q_ij

The queue starts empty: the first step has nothing but the image itself to choose, and a loss of 0; the
authors' code starts with random directions. In the paper t is the projection of a contrastive teacher; here
it is the pooled feature, standardised over images, since not every teacher has a projection.

Published training: SGD, lr 0.03 for batches of 256, weight decay 1e-4, 200 epochs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import unit
from ssl_zoo.heads import exact
from ssl_zoo.memory import Queue
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._taught import Taught
from ssl_zoo.views.view import View


@exact
def divergence(
    z: Tensor, t: Tensor, queue: Tensor, valid: Tensor, temperature: float, teacher_temperature: float
) -> tuple[Tensor, Tensor]:
    """L of students z and teachers t (N, D), all of length 1, and the mean entropy of p.

    queue: (K, D) of length 1; valid: (K,) bool, which of them there are.
    """
    there = F.pad(valid, (1, 0), value=True)  # (1 + K,)
    scores = [
        torch.cat([(one * t).sum(1, keepdim=True), one @ queue.T], 1).masked_fill(~there, float("-inf"))
        for one in (z, t)
    ]
    log_q = (scores[0] / temperature).log_softmax(1).masked_fill(~there, 0)  # 0 times infinity is no number
    p = (scores[1] / teacher_temperature).softmax(1)
    return -(p * log_q).sum(1).mean(), -torch.xlogy(p, p).sum(1).mean()


class SimilarityDistillation(Taught):
    """Args:
        backbone: any vision backbone, the student.
        teacher: any trained image backbone, or the folder of a run or of an exported backbone.
        temperature: T_s, of the student. teacher_temperature: T_t; the lower, the fewer images are alike.
        queue: K, features of earlier images that are kept.
        width: of the head's inner layer; 0: the head is one linear layer.
        view: images to training crops; default: those of MoCo v2, in the larger of both image sizes.

    Raises:
        ValueError: a temperature that is not positive, and what `Taught` refuses.
    """

    family = "distillation"
    unit = "nats"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"teacher": "cnn", "queue": 10, "width": 24}

    def __init__(
        self,
        backbone: ImageBackbone,
        teacher: ImageBackbone | str | Path,
        temperature: float = 0.2,
        teacher_temperature: float = 0.01,
        queue: int = 65_536,
        width: int = 2048,
        view: View | None = None,
    ):
        if min(temperature, teacher_temperature) <= 0:
            raise ValueError(f"temperatures are positive, not {temperature} and {teacher_temperature}")
        super().__init__(backbone, teacher, width, view)
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.queue = Queue(queue, self.standardise.num_features)

    def forward(self, batch: Batch) -> Loss:
        z, t = (unit(rows) for rows in self.read(self.view(batch.x)))
        rows, valid = self.queue.rows, self.queue.valid()
        loss, entropy = divergence(z, t, rows, valid, self.temperature, self.teacher_temperature)
        self.queue.stash(t)
        return Loss(loss, {"teacher_entropy": entropy, "divergence": loss.detach() - entropy})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.queue.flush()
