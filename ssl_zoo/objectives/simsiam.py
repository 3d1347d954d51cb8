"""SimSiam: a network predicts what it says itself of another view (Chen & He 2021, arXiv:2011.10566).

With z = g(f(v)) the projections of two views, p = q(z) the predictions from them, sg() a constant (eq. 1-4),

    L = - mean_i (cos(p1_i, sg(z2_i)) + cos(p2_i, sg(z1_i))) / 2

It is BYOL without the slow average. A constant network has the least loss, -1; without the stop-gradient, or
without the predictor q, training gets there. Watch `projection_std` and not the loss: it is about 1 for
projections spread over the sphere, and 0 for collapsed ones. The predictor's learning rate stays as it is
while the schedule lowers that of the rest (section 4.2), so that it keeps up with the projections.

Both views go through the network in one batch, so that batch norms see both; the paper's code passes them one
after the other. Published training: SGD, lr 0.05 x batch / 256, weight decay 1e-4, batch 512.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss, Tune
from ssl_zoo.objectives._joint import JointEmbedding, projection_std
from ssl_zoo.views.recipes import weak
from ssl_zoo.views.view import Views


@exact
def similarity(p: Tensor, z: Tensor) -> Tensor:
    """The loss of predictions p (2 N, D), of which rows i and N + i are of two views.

    z: (2 N, D) projections in the same order, without gradient; each prediction is of the other view's.
    """
    return -F.cosine_similarity(p, z.roll(len(z) // 2, 0)).mean()


class SimSiam(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, three linear layers, a batch norm behind each, ReLU between.
        bottleneck: inner width of the predictor, Linear-BatchNorm-ReLU-Linear; a quarter of `out`.
        views: images to two views of one size; default: the paper's.

    Raises:
        ValueError: the backbone is not for images, or there are not two views of one size.
    """

    family = "distillation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "bottleneck": 4}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 2048,
        out: int = 2048,
        bottleneck: int = 512,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, weak)
        self.project = mlp(backbone.dim, width, width, out, norm="batch", last="plain_batch")
        self.predict = mlp(out, bottleneck, out, norm="batch")

    def forward(self, batch: Batch) -> Loss:
        z = self.embed(batch)  # (2 B, out)
        loss = similarity(self.predict(z), z.detach())
        return Loss(loss, {"projection_std": projection_std(z)})

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        return Tune(constant=name.startswith("predict."))
