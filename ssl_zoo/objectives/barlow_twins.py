"""Barlow Twins: redundancy reduction (Zbontar et al. 2021, arXiv:2103.03230, eq. 1-2).

With Z, Z' the projections of two views of N images, each dimension brought to mean 0 and variance 1 over the
batch, and C = Z^T Z' / N their cross-correlation matrix,

    L = sum over d of (1 - C_dd)^2 + lambda sum over d != e of C_de^2,  lambda = 0.0051

The loss is a sum over thousands of dimensions, and is hundreds at first, so that learning rates of other
objectives are too high for it unless the optimizer rescales gradients; hence `scale` (solo-learn: 0.1). Mean
and variance are those of the samples of all processes. A constant network has a loss of D, as its C is 0.

Published training: LARS, lr 0.2 x batch / 256 for weights and 0.0048 x batch / 256 for biases and norms,
weight decay 1e-6, batch 2048.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.covariance import off_diagonal
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss, Tune
from ssl_zoo.objectives._joint import JointEmbedding
from ssl_zoo.views.recipes import byol
from ssl_zoo.views.view import Views


@exact
def correlation(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of projections of two views (N, D): both sums of the loss, and the mean of the diagonal of C."""
    first, second = (F.batch_norm(z, None, None, training=True) for z in (first, second))
    diagonal = (first * second).mean(0)  # (D,)
    return (1 - diagonal).square().sum(), off_diagonal(first, second) / len(first) ** 2, diagonal.mean()


class BarlowTwins(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, three linear layers with batch norms and ReLU between them.
        redundancy: lambda, weight of the entries off the diagonal.
        scale: factor on the whole loss.
        bias_lr: the learning rate of biases and norms, as a part of that of weights. The paper's 0.024 is for
            LARS, which makes the steps of weights short.
        views: images to two views of one size; default: the paper's.

    Raises:
        ValueError: the backbone is not for images, or there are not two views of one size; from `forward`, a
            batch of one sample.
    """

    family = "decorrelation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "scale": 0.01}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 8192,
        out: int = 8192,
        redundancy: float = 0.0051,
        scale: float = 1.0,
        bias_lr: float = 0.024,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, byol)
        # The loss takes the mean of a dimension away, and with it a bias of the last layer.
        self.project = mlp(backbone.dim, width, width, out, norm="batch", last="plain_linear")
        self.redundancy, self.scale, self.bias_lr, self.out = redundancy, scale, bias_lr, out

    def forward(self, batch: Batch) -> Loss:
        alike, redundant, diagonal = correlation(*self.embed_all(batch))
        loss = self.scale * (alike + self.redundancy * redundant)
        return Loss(loss, {"correlation": diagonal.detach(), "redundancy": redundant.detach()})

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        return Tune(lr=self.bias_lr) if parameter.dim() == 1 else Tune()

    def chance(self, rows: int) -> float:
        return self.scale * self.out
