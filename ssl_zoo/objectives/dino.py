"""Self-distillation without labels: DINO (Caron et al. 2021, arXiv:2104.14294, algorithm 1).

A student sees large and small crops of an image, a teacher the large ones. From each crop v the student
predicts what the teacher says of every other crop g, as a distribution over K prototypes:

    q_g = softmax((teacher(x_g) - c) / T_t)
    L   = mean over g and v, v != g, of - sum_k q_gk log softmax(student(x_v) / T_s)_k

The teacher follows the student, c the mean of the teacher's scores (eq. 4). A low T_t keeps q from becoming
uniform, c keeps images from all having one prototype. Heads read pooled tokens; the paper's, a class token.
Published training: AdamW, lr 5e-4 x batch / 256, weight decay 0.04 to 0.4, batch 1024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from ssl_zoo.assign import entropy
from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.memory import Centre
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._distilled import SelfDistillation, distillation
from ssl_zoo.views.recipes import dino
from ssl_zoo.views.view import Views


class DINO(SelfDistillation):
    """Args:
        backbone: any vision backbone. A CNN's heads have batch norms, those of a ViT none.
        prototypes, temperature: K and T_s.
        width, bottleneck: of the head, three linear layers with GELU that end in rows of norm 1.
        teacher_temperature: T_t, first and last; it rises over the fraction `warmup` of training.
        momentum: share of the teacher that stays in a step; rises to 1 by a cosine.
        frozen: fraction of training for which the prototypes stand still.
        views: crops; the teacher sees those of the first size. None: the paper's, small ones 3/7 as wide.

    Raises:
        ValueError: the backbone is not for images, an image has one crop, or a temperature is not positive.
    """

    family = "distillation"
    unit = "nats"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"prototypes": 12, "width": 24, "bottleneck": 8}

    def __init__(
        self,
        backbone: ImageBackbone,
        prototypes: int = 65_536,
        width: int = 2048,
        bottleneck: int = 256,
        temperature: float = 0.1,
        teacher_temperature: Sequence[float] = (0.04, 0.07),
        warmup: float = 0.1,
        momentum: float = 0.996,
        frozen: float = 0.01,
        views: Views | None = None,
    ):
        super().__init__(
            backbone, prototypes, width, bottleneck, temperature, teacher_temperature, warmup, momentum,
            frozen, views, dino,
        )  # fmt: skip
        self.centre = Centre(prototypes)

    def forward(self, batch: Batch) -> Loss:
        crops = self.views(batch.x)  # (V_size * B, C, h, w) for each size
        student = self.score(torch.cat([self.backbone(x).pooled for x in crops]))  # (V * B, K)
        with torch.no_grad():
            backbone, project, compare = self.teacher
            teacher = compare(project(backbone(crops[0]).pooled))  # (G * B, K)
            q = self.target(teacher, self.centre)
        loss = distillation(student, q, len(batch.x), self.temperature)
        return Loss(loss, {"teacher_entropy": entropy(q), "divergence": loss.detach() - entropy(q)})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.centre.flush()
