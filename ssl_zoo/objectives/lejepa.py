"""LeJEPA: views of an image agree, and projections are Gaussian (Balestriero & LeCun 2025, arXiv:2511.08544).

With z_iv (D) the projection of view v of image i, and m_i the mean over the large views of image i,

    L = (1 - lambda) mean_iv |z_iv - m_i|^2 / D + lambda mean_v SIGReg(z_.v)

SIGReg compares the N projections with a standard normal distribution along random directions a, new in each
step, by the characteristic function (the test of Epps & Pulley 1983):

    SIGReg(z) = mean_a N int |mean_i exp(i t a.z_i) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt

It is 1.05 in expectation for normal projections, whatever N and D, and 0.402 N where all are 0. The integral
is by the trapezoid rule on 17 knots over [0, 3], doubled, as in the authors' minimal code, which takes m_i
over all views.

Published training: AdamW, lr 5e-4, weight decay 0.05 (ViT) or 5e-4 (ResNet), warm-up of one epoch.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact, mlp
from ssl_zoo.noise import directions
from ssl_zoo.normality import sigreg
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import MultiCrop, of_all, projection_std
from ssl_zoo.views.recipes import lejepa
from ssl_zoo.views.view import Views


@exact
def invariance(z: Tensor, large: int) -> Tensor:
    """The mean of |z_iv - m_i|^2 / D over z (V, N, D), whose first `large` views make m_i: a scalar."""
    return (z - z[:large].mean(0)).square().mean()


class LeJEPA(MultiCrop):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, two hidden layers with batch norm and ReLU, and of z (D).
        weight: lambda, in [0, 1].
        slices: random directions of a step. They cost a few tensors of views x images x slices numbers.
        views: crops; m_i is the mean over those of the first size. None: the paper's, small ones 3/7 as wide.

    Raises:
        ValueError: the backbone is not for images, an image has one crop, or a weight or number of slices
            that cannot be.
    """

    family = "decorrelation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "slices": 16}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 2048,
        out: int = 64,
        weight: float = 0.05,
        slices: int = 1024,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, lejepa)
        if not 0 <= weight <= 1 or slices < 1:
            raise ValueError(f"weight is in [0, 1] and slices are 1 or more, not {weight} and {slices}")
        self.weight, self.slices, self.out = weight, slices, out
        self.project = mlp(backbone.dim, width, width, out, norm="batch")

    def forward(self, batch: Batch) -> Loss:
        z = self.embed(batch).unflatten(0, (-1, len(batch.x)))  # (V, B, out)
        apart = invariance(z, self.large)  # of this process's rows
        along = directions(self.slices, self.out).to(z.device, non_blocking=True)
        statistic = sigreg(of_all(z), along)
        parts = {"invariance": apart, "sigreg": statistic, "projection_std": projection_std(z.flatten(0, 1))}
        loss = (1 - self.weight) * apart + self.weight * statistic
        return Loss(loss, {name: part.detach() for name, part in parts.items()})

    def chance(self, rows: int) -> float:
        return self.weight * sigreg(torch.zeros(1, rows, 1), torch.ones(1, 1)).item()
