"""Self-distillation without labels: DINO (Caron et al. 2021, arXiv:2104.14294, algorithm 1).

A student sees large and small crops of an image, a teacher the large ones. From each crop v the student
predicts what the teacher says of every other crop g, as a distribution over K prototypes:

    q_g = softmax((teacher(x_g) - c) / T_t)
    L   = mean over g and v, v != g, of - sum_k q_gk log softmax(student(x_v) / T_s)_k

The teacher follows the student, c the mean of the teacher's scores (eq. 4). A low T_t keeps q from becoming
uniform, c keeps images from all having one prototype. Heads read pooled tokens; the paper's, a class token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.assign import centre_softmax
from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.heads import Prototypes, exact, mlp
from ssl_zoo.memory import Centre
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.views.recipes import dino, local_size
from ssl_zoo.views.view import Views, groups


@exact
def distillation(student: Tensor, q: Tensor, count: int, temperature: float) -> Tensor:
    """The loss of `count` images: student (V * B, K) scores, large crops first; teacher q (G * B, K)."""
    log_p = (student / temperature).log_softmax(1).unflatten(0, (-1, count))  # (V, B, K)
    pairs = torch.einsum("gbk,vbk->gvb", q.unflatten(0, (-1, count)), log_p).mean(2)  # (G, V)
    other = 1 - torch.eye(*pairs.shape, dtype=pairs.dtype, device=pairs.device)
    return -(pairs * other).sum() / (pairs.numel() - len(pairs))


class DINO(Objective[ImageBackbone]):
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
        super().__init__(backbone)
        if len(teacher_temperature) != 2 or min(temperature, *teacher_temperature) <= 0:
            raise ValueError("temperature is one positive number, and teacher_temperature are two")
        size, patch = backbone.image_size, getattr(backbone, "patch", 1)
        self.views = views or dino(size, local_size(size, patch))
        if sum(groups(self.views)) < 2:
            raise ValueError("DINO predicts one crop from another, and its views are a single crop")
        norm = "batch" if backbone.kind == "cnn" else None
        self.project = mlp(backbone.dim, width, width, bottleneck, norm=norm, act="gelu")
        for layer in (one for one in self.project if isinstance(one, nn.Linear)):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        self.compare = Prototypes(bottleneck, prototypes)
        self.teacher = Teacher(backbone, self.project, self.compare)
        self.centre = Centre(prototypes)
        self.temperature, self.frozen, self.momentum = temperature, frozen, ramp(momentum, 1.0)
        self.teacher_temperature = ramp(teacher_temperature[0], teacher_temperature[1], "linear", warmup)

    def forward(self, batch: Batch) -> Loss:
        crops = self.views(batch.x)  # (V_size * B, C, h, w) for each size
        pooled = torch.cat([self.backbone(x).pooled for x in crops])  # (V * B, D)
        student = self.compare(self.project(pooled), (self.t >= self.frozen).to(self.t))  # (V * B, K)
        with torch.no_grad():
            backbone, project, compare = self.teacher
            teacher = compare(project(backbone(crops[0]).pooled))  # (G * B, K)
            q = centre_softmax(teacher, self.centre.value, self.teacher_temperature(self.t))
        self.centre.stash(teacher)
        loss = distillation(student, q, len(batch.x), self.temperature)
        entropy = -torch.xlogy(q, q).sum(1).mean()  # ln K where all prototypes are alike, 0 where one has all
        return Loss(loss, {"teacher_entropy": entropy, "divergence": loss.detach() - entropy})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))
        self.centre.flush()

    def export(self) -> dict[str, Backbone]:
        """The teacher's backbone, which the paper measures."""
        return {"backbone": self.teacher[0]}  # pyright: ignore[reportReturnType]
