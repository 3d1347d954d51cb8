"""BYOL: a network predicts what a slow average of itself says of another view (Grill et al. 2020, eq. 2-5).

With p = q(g(f(v))) the prediction of the network from one view, and z' = g'(f'(v')) the projection by the
average from the other view, a constant,

    L = mean_i (2 - 2 cos(p_i, z'_i)), and the same with the views swapped: the sum of both

    f', g' <- m f', g' + (1 - m) f, g after each step;  m(t) = 1 - (1 - m_0) (cos(pi t) + 1) / 2

There are no negatives: a constant network has the least loss. What keeps the features apart is the predictor
q, which the average does not have, and the batch norms of the heads. Watch `projection_std` and not the loss:
it is about 1 for projections spread over the sphere, and 0 for collapsed ones.

Both views go through the network in one batch, so that batch norms see both; the paper's code passes them
one after the other. Published training: LARS, lr 0.2 x batch / 256, weight decay 1.5e-6, batch 4096.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding, projection_std
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.views.recipes import byol
from ssl_zoo.views.view import Views


@exact
def regression(p: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of predictions p (2 N, D), of which rows i and N + i are of two views, and the mean cosine.

    z: (2 N, D) projections in the same order; each prediction is of the other view's.
    """
    cosine = F.cosine_similarity(p, z.roll(len(z) // 2, 0))  # (2 N,)
    return (2 - 2 * cosine).view(2, -1).mean(1).sum(), cosine.mean()


class BYOL(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of projection and prediction head, Linear-BatchNorm-ReLU-Linear (section 3.3).
        momentum: m_0, share of the average that the first step leaves; 0.996 is a half-life of 173 steps. It
            rises to 1.
        views: images to two views of one size; default: the paper's.

    Raises:
        ValueError: the backbone is not for images, or there are not two views of one size.
    """

    family = "distillation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "momentum": 0.9}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 4096,
        out: int = 256,
        momentum: float = 0.996,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, byol)
        self.project = mlp(backbone.dim, width, out, norm="batch")
        self.predict = mlp(out, width, out, norm="batch")
        self.teacher = Teacher(backbone, self.project)
        self.momentum = ramp(momentum, 1.0)

    def forward(self, batch: Batch) -> Loss:
        (x,) = self.views(batch.x)  # (2 B, 3, H, W): all first views, then all second ones
        z = self.project(self.backbone(x).pooled)  # (2 B, out)
        slow, project = self.teacher
        with torch.no_grad():
            target = project(slow(x).pooled)
        loss, cosine = regression(self.predict(z), target)
        return Loss(loss, {"cosine": cosine.detach(), "projection_std": projection_std(z)})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))
