"""MMCR: maximum manifold capacity representations (Yerxa et al. 2023, arXiv:2303.03307, eq. 5).

With z_iv the normalised projection of view v of image i, D wide, and c_i = mean over v of z_iv,

    L = - ||C||_* + lambda mean over i of ||Z_i||_*

where ||.||_* is the sum of singular values, C (N, D) has rows c_i, and Z_i (V, D) the views of image i.
Long centroids mean that views agree, and many equal singular values that images do not. A network that gives
all images the same has a loss of -sqrt(N); the least is -sqrt(N min(N, D)). The paper trains with lambda = 0.

On ImageNet the paper averages the centroids with those of a slow average of the network; this is its form for
CIFAR, without. Its code gathers projections of other processes without their gradient; here they have it.
lightly's loss does not normalise, which is left to its users.

Published training (CIFAR-10): Adam, lr 1e-3, weight decay 1e-6, batches of 32 images with 40 views each.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding
from ssl_zoo.views.recipes import manifold
from ssl_zoo.views.view import Views


@exact
def spread(z: Tensor) -> tuple[Tensor, Tensor]:
    """||C||_* of projections z (V, N, D), and the mean of the squared lengths of centroids."""
    centroids = F.normalize(z, dim=-1).mean(0)  # (N, D)
    return torch.linalg.svdvals(centroids).sum(), centroids.square().sum(1).mean()


@exact
def extent(z: Tensor) -> Tensor:
    """The mean over images of ||Z_i||_*, of projections z (V, N, D)."""
    return torch.linalg.svdvals(F.normalize(z, dim=-1).transpose(0, 1)).sum(1).mean()


class MMCR(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, Linear-BatchNorm-ReLU-Linear. Each step finds the singular values
            of a matrix of batch x out: keep both in the hundreds.
        local: lambda, weight of the extent of each image's views. Above 0 it costs N more decompositions.
        views: images to two views or more of one size; default: four of SimCLR's for CIFAR.

    Raises:
        ValueError: the backbone is not for images, or views of several sizes; from `forward`, a batch of one
            sample.
    """

    family = "decorrelation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 8, "out": 3, "local": 0.1}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 512,
        out: int = 128,
        local: float = 0.0,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, manifold, count=None)
        self.project = mlp(backbone.dim, width, out, norm="batch", last="plain_linear")
        self.local = local

    def forward(self, batch: Batch) -> Loss:
        z = self.embed_all(batch)
        nuclear, length = spread(z)
        loss = self.local * extent(z) - nuclear if self.local else -nuclear
        return Loss(loss, {"centroid_length": length.detach().sqrt()})

    def chance(self, rows: int) -> float:
        return self.local * len(self.views.each) ** 0.5 - rows**0.5
