"""EMP-SSL: many patches of one image, and projections that fill their space (Tong et al. 2023,
arXiv:2304.03977).

With z_iv the projection of patch v of image i, of length 1, and z_i the mean over its V patches,

    L = - R(Z) - lambda mean_iv cos(z_iv, z_i),    R(Z) = mean_v ln det(I + D / (N eps) Z_v' Z_v) / 2

where Z_v (N, D) holds patch v of all images. The coding rate R is the larger the more directions the
projections use evenly, which keeps them apart: no negatives, no teacher. A step costs V patches an image, and
an epoch tells of each image 10 times as much as two views do, so the paper trains for 1 to 30 epochs.

The paper writes eps^2; its code, and so its figures, has eps, as here. The paper probes the mean over 128
patches of the head's first layer; here probes read the backbone's features of the whole image.

Published training (CIFAR-10): SGD with clipped LARS (trust 0.005), lr 0.3, Nesterov momentum 0.9, weight
decay 1e-4, cosine, batches of 100 images; ResNet-18: 84 to 85 % after one epoch, 90.7 % after ten.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import unit
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding, of_all, projection_std
from ssl_zoo.views.recipes import emp
from ssl_zoo.views.view import Views


@exact
def coding_rate(z: Tensor, eps: float) -> Tensor:
    """R of z (V, N, D), rows of length 1: a scalar.

    det(I + c Z'Z) = det(I + c ZZ'), so that the smaller of both matrices is taken.
    """
    rows, dim = z.shape[1:]
    products = z.mT @ z if dim < rows else z @ z.mT
    eye = torch.eye(products.shape[-1], dtype=z.dtype, device=z.device)
    # All eigenvalues are 1 at least, so there is no failure to check for, which a GPU would wait for.
    root, _ = torch.linalg.cholesky_ex(eye + dim / (rows * eps) * products)
    return root.diagonal(dim1=-2, dim2=-1).log().sum(-1).mean()  # ln det / 2


@exact
def agreement(z: Tensor) -> Tensor:
    """The mean cosine of z (V, N, D) with its mean over V: a scalar."""
    return F.cosine_similarity(z, z.mean(0, keepdim=True), dim=2).mean()


class EMPSSL(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, two hidden layers with batch norm and ReLU.
        eps: how finely the coding rate tells rows apart: they share a code within sqrt(eps).
        invariance: lambda, weight of the agreement of patches.
        views: images to V patches of one size; None: the paper's 20, each a quarter of the image.

    Raises:
        ValueError: the backbone is not for images, there are not two or more views of one size, or `eps` is
            not positive.
    """

    family = "decorrelation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "eps": 2.0, "invariance": 1.0}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 4096,
        out: int = 1024,
        eps: float = 0.2,
        invariance: float = 200.0,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, emp, count=None)
        if eps <= 0:
            raise ValueError(f"eps must be positive, not {eps}: the coding rate divides by it")
        self.eps, self.invariance, self.out = eps, invariance, out
        self.project = mlp(backbone.dim, width, width, out, norm="batch")

    def forward(self, batch: Batch) -> Loss:
        z = unit(self.embed(batch)).unflatten(0, (-1, len(batch.x)))  # (V, B, out)
        z = of_all(z)  # (V, N, out): all processes compute one loss
        rate, cosine = coding_rate(z, self.eps), agreement(z)
        parts = {"coding_rate": rate, "cosine": cosine, "projection_std": projection_std(z.flatten(0, 1))}
        return Loss(-rate - self.invariance * cosine, {name: part.detach() for name, part in parts.items()})

    def chance(self, rows: int) -> float:
        return -math.log(1 + self.out / self.eps) / 2 - self.invariance
