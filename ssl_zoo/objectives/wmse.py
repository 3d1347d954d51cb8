"""W-MSE: whitening, then the distance of views (Ermolov et al. 2021, arXiv:2007.06346, eq. 6).

With h the projections of w images in one view, m their mean and K K^T their covariance (by Cholesky, w - 1),

    z_i = K^-1 (h_i - m)
    L   = mean over i and over pairs of views of 2 - 2 cos(z_i, z'_i)

Whitened projections have the covariance 1, so that they cannot collapse, and nothing pushes samples apart one
by one. K is the less certain the nearer w is to the dimensions D, so w is 2 D at least; a batch is divided at
random into parts of w, the same parts for all views. Here they are parts of the samples of all processes, and
where w does not divide these, parts of a few more. A constant network has no K, and a loss that is NaN.

Published training (CIFAR-10): Adam, lr 3e-3, weight decay 1e-6, batch 256, parts of 128.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact, mlp
from ssl_zoo.noise import rand_shared
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding, projection_std
from ssl_zoo.views.recipes import whitening
from ssl_zoo.views.view import Views


def whitened(h: Tensor, eps: float = 0.0) -> Tensor:
    """Rows with mean 0 and covariance 1 over their second to last axis: (..., w, D); NaN without K."""
    h = h - h.mean(-2, keepdim=True)
    covariance = h.mT @ h / (h.shape[-2] - 1)  # (..., D, D)
    if eps:
        covariance = torch.lerp(covariance, torch.eye(h.shape[-1], dtype=h.dtype, device=h.device), eps)
    # Not `cholesky`, which waits for the device to tell whether it succeeded. A factor that failed holds
    # finite numbers that whiten nothing, so it becomes NaN.
    factor, failed = torch.linalg.cholesky_ex(covariance)
    factor = factor.masked_fill((failed != 0)[..., None, None], torch.nan)
    return torch.linalg.solve_triangular(factor, h.mT, upper=False).mT


@exact
def distance(h: Tensor, size: int, order: Tensor, eps: float = 0.0) -> Tensor:
    """The loss of projections h (V, N, D) of all processes, whitened in parts of `size` or a few more.

    order: (N,) permutation; samples that are left over when parts are of equal size, its last, count for
    nothing.
    """
    parts = max(h.shape[1] // size, 1)
    each = h.shape[1] // parts
    z = F.normalize(whitened(h[:, order[: parts * each]].unflatten(1, (parts, each)), eps), dim=-1)
    views = len(z)
    pairs = (z.sum(0).square().sum(-1) - views) / (views * (views - 1))  # mean cosine of a sample's pairs
    return 2 - 2 * pairs.mean()


class WMSE(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, Linear-BatchNorm-ReLU-Linear.
        size: w, samples that are whitened together.
        eps: share of the identity in the covariance matrix, for dimensions that hardly vary.
        views: images to two views or more of one size; default: the paper's for CIFAR, four.

    Raises:
        ValueError: the backbone is not for images, views of several sizes, or a size below 2 * out; from
            `forward`, a batch of no more than `out` samples, unless eps is positive.
    """

    family = "decorrelation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 2, "size": 4, "eps": 0.1}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 1024,
        out: int = 64,
        size: int = 128,
        eps: float = 0.0,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, whitening, count=None)
        if size < 2 * out:
            raise ValueError(
                f"{size} samples are too few for the covariance of {out} dimensions: take size={2 * out} or "
                f"more, or out={size // 2} or fewer"
            )
        self.project = mlp(backbone.dim, width, out, norm="batch", last="plain_linear")
        self.size, self.out, self.eps = size, out, eps

    def forward(self, batch: Batch) -> Loss:
        h = self.embed_all(batch)
        if (count := h.shape[1]) <= self.out and not self.eps:
            raise ValueError(
                f"{count} samples cannot be whitened in {self.out} dimensions: raise batch_size to "
                f"{self.size} or more, lower size and out, or set eps"
            )
        order = rand_shared(count).argsort().to(h.device, non_blocking=True)
        loss = distance(h, self.size, order, self.eps)
        return Loss(
            loss, {"cosine": 1 - loss.detach() / 2, "projection_std": projection_std(h.flatten(0, 1))}
        )
