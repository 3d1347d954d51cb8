"""TiCo: transformation invariance and covariance contrast (Zhu et al. 2022, arXiv:2206.10698).

With z the normalised projections of N first views, D wide, and z' those of the second views by a slow average
of the network, a constant,

    B   = mean over i of z_i z_i^T;  C_t = beta C_{t-1} + (1 - beta) B, from C_0 = 0
    L   = 1 - mean_i z_i . z'_i + rho mean_i z_i^T C_t z_i
    average <- m average + (1 - m) network after each step

z_i^T C_t z_i is the mean squared cosine of z_i with the projections of this batch and of those before, the
latest most: the negatives of an endless queue in one matrix. A network that gives all images the same has a
loss of rho once C is full; the least is rho / D.

Its authors published no code, and two facts are at second hand. rho: two implementations call 8 the paper's
(lightly; sayannag/TiCo-pytorch, which itself takes 20). The gradient: lightly lets none flow through B, after
a figure of the paper (its pull request 1484), and so it is here; sayannag's lets it flow.

Published training: LARS, lr 3.2 for a batch of 4096, weight decay 1.5e-6.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.distributed import total, world
from ssl_zoo.heads import exact, mlp
from ssl_zoo.memory import Centre
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding, projection_std
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.views.recipes import byol
from ssl_zoo.views.view import Views


@exact
def moments(z: Tensor) -> Tensor:
    """B of the normalised rows z (N, D) of all processes: (D, D), without gradient."""
    z = F.normalize(z.detach(), dim=1)
    return total(z.T @ z) / (len(z) * world())


@exact
def contrast(z: Tensor, target: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cosine of z (N, D) with target (N, D), and mean z^T C z, of rows that need not be normalised."""
    z = F.normalize(z, dim=1)
    return F.cosine_similarity(z, target).mean(), ((z @ covariance) * z).sum(1).mean()


class TiCo(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, Linear-BatchNorm-ReLU-Linear.
        rho: weight of the covariance contrast.
        beta: share of the covariance matrix that a step leaves.
        momentum: m, share of the average that a first step leaves; it rises to 1.
        views: images to two views of one size, for network and average; default: the paper's, BYOL's.

    Raises:
        ValueError: the backbone is not for images, a beta out of range, or not two views of one size.
    """

    family = "decorrelation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "momentum": 0.9}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 4096,
        out: int = 256,
        rho: float = 8.0,
        beta: float = 0.9,
        momentum: float = 0.99,
        views: Views | None = None,
    ):
        if not 0 <= beta < 1:
            raise ValueError(f"beta is in [0, 1), not {beta}: at 1 the covariance matrix would stay 0")
        super().__init__(backbone, views, byol)
        self.project = mlp(backbone.dim, width, out, norm="batch")
        self.teacher = Teacher(backbone, self.project)
        self.covariance = Centre(out * out, beta)  # C, row by row
        self.rho, self.momentum = rho, ramp(momentum, 1.0)

    def forward(self, batch: Batch) -> Loss:
        first, second = self.views(batch.x)[0].chunk(2)  # (B, 3, H, W) each
        z = self.project(self.backbone(first).pooled)  # (B, out)
        slow, project = self.teacher
        with torch.no_grad():
            target = project(slow(second).pooled)
        new = moments(z)
        c = self.covariance.value.view_as(new).to(new).lerp(new, 1 - self.covariance.momentum)
        self.covariance.stash(new.view(1, -1))
        cosine, contrasted = contrast(z, target, c)
        parts = {"cosine": cosine.detach(), "contrast": contrasted.detach()}
        return Loss(1 - cosine + self.rho * contrasted, parts | {"projection_std": projection_std(z)})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))
        self.covariance.flush()

    def chance(self, rows: int) -> float:
        return self.rho
