"""SupCon, a reference that reads labels: all views of a class are positives (Khosla et al. 2020,
arXiv:2004.11362, eq. 2).

With s_ik the cosines of 2N views divided by T, and P(i) the other views of images that have view i's label,

    L = mean_i ( - 1 / |P(i)| sum over p in P(i) of log( exp(s_ip) / sum over k != i of exp(s_ik) ) )

Where all labels differ it is NT-Xent. So are the terms of images without a label (-1): P(i) is then the other
view of the same image. The paper's code multiplies the loss by T / 0.07 besides.

Published training on CIFAR-10: SGD, lr 0.5, batch 1024, 1,000 epochs.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import by_pairs
from ssl_zoo.distributed import everybody
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding
from ssl_zoo.views.recipes import simclr, twice
from ssl_zoo.views.view import Views


@exact
def supervised_contrast(z: Tensor, y: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss of projections z (2 N, D), of which rows i and N + i are views of image i with label y_i, y
    (N,) int64, and the share of rows whose nearest other row is a positive."""
    y = y.repeat(2)
    everyone = everybody(y)

    def judge(scores: Tensor, pair: Tensor, block: slice) -> tuple[Tensor, Tensor]:
        own = y[block][:, None]
        alike = (own == everyone) & (own >= 0)
        positive = alike.scatter(1, pair[:, None], True) & scores.isfinite()  # a row is not its own positive
        log_p = scores.log_softmax(1).masked_fill(~positive, 0.0)
        found = positive.gather(1, scores.argmax(1, keepdim=True)).float().mean()
        return -(log_p.sum(1) / positive.sum(1)).mean(), found

    return by_pairs(z, temperature, judge)


class SupCon(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        temperature: T.
        width, out: of the projection head, Linear-ReLU-Linear.
        views: images to two views of one size; default: SimCLR's.

    Raises:
        ValueError: the backbone is not for images, a temperature that is not positive, or not two views of
            one size; from `forward`, a batch of one sample, or labels that are not one whole number a row.
    """

    family = "reference"
    unit = "nats"
    takes = ("vit", "cnn")
    reads = ("x", "y")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8}

    def __init__(
        self,
        backbone: ImageBackbone,
        temperature: float = 0.1,
        width: int = 2048,
        out: int = 128,
        views: Views | None = None,
    ):
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        super().__init__(backbone, views, lambda size: twice(simclr(size)))
        self.temperature = temperature
        self.project = mlp(backbone.dim, width, out)

    def forward(self, batch: Batch) -> Loss:
        y = batch.y
        assert y is not None  # as `reads` says
        if y.is_floating_point() or y.shape != batch.x.shape[:1]:
            raise ValueError(f"labels are {len(batch.x)} whole numbers, not {y.dtype} {tuple(y.shape)}")
        loss, found = supervised_contrast(self.embed(batch), y.long(), self.temperature)
        return Loss(loss, {"class_found": found.detach()})

    def chance(self, rows: int) -> float:
        return math.log(2 * rows - 1)
