"""VICReg: variance, invariance, covariance (Bardes et al. 2022, arXiv:2105.04906, eq. 1-6).

With Z, Z' the projections of two views of N images, D wide, C(Z) their covariance matrix (N - 1),

    v(Z) = mean over d of max(0, 1 - sqrt(C(Z)_dd + 1e-4))
    c(Z) = 1/D sum over d != e of C(Z)_de^2
    L    = 25 mean((Z - Z')^2) + 25 (v(Z) + v(Z')) / 2 + (c(Z) + c(Z'))

The variance term keeps projections apart, the covariance term keeps their dimensions from saying the same. In
equation 6 the variances of both views are summed, and the first term sums over dimensions; the authors' code
halves the variance sum, though not that of the covariances (facebookresearch/vicreg, issues 8 and 26), and
takes a mean. This is the code, whose weights are the published ones. A constant network has a loss of 24.75.

Published training: LARS, lr 0.2 x batch / 256, weight decay 1e-6, batch 2048.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.covariance import off_diagonal
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding
from ssl_zoo.views.recipes import byol
from ssl_zoo.views.view import Views

EPS = 1e-4


@exact
def vic(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The terms of projections of two views (N, D): mean((Z - Z')^2), (v + v') / 2, and c + c'."""
    v = c = first.new_zeros(())
    for z in (first, second):
        z = z - z.mean(0)
        v = v + F.relu(1 - (z.square().sum(0) / (len(z) - 1) + EPS).sqrt()).mean() / 2
        c = c + off_diagonal(z, z) / (len(z) - 1) ** 2 / z.shape[1]
    return F.mse_loss(first, second), v, c


class VICReg(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, three linear layers with batch norms and ReLU between them.
        invariance, variance, covariance: weights of the three terms. Where invariance is far the heaviest,
            projections shrink to a point, and the variance term, whose slope is bounded, does not stop it.
        views: images to two views of one size; default: the paper's.

    Raises:
        ValueError: the backbone is not for images, or there are not two views of one size; from `forward`, a
            batch of one sample.
    """

    family = "decorrelation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {
        "width": 24,
        "out": 8,
        "invariance": 1.0,
        "variance": 1.0,
        "covariance": 0.04,
    }

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 8192,
        out: int = 8192,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, byol)
        # Neither term would see a bias of the last layer.
        self.project = mlp(backbone.dim, width, width, out, norm="batch", last="plain_linear")
        self.weights = invariance, variance, covariance

    def forward(self, batch: Batch) -> Loss:
        terms = vic(*self.embed_all(batch))
        loss = sum(weight * term for weight, term in zip(self.weights, terms, strict=True))
        names = ("invariance", "variance", "covariance")
        return Loss(loss, {k: term.detach() for k, term in zip(names, terms, strict=True)})  # pyright: ignore[reportArgumentType]

    def chance(self, rows: int) -> float:
        return self.weights[1] * (1 - EPS**0.5)
