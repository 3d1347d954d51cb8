"""NNCLR: the positive of a view is the nearest neighbour of the other view among earlier images (Dwibedi et
al. 2021, arXiv:2104.14548, eq. 2 and 3, algorithm 1).

With z_v the projections and p_v = predict(z_v) the predictions of view v, all of length 1, and nn(z) the row
of a queue of earlier projections that is nearest to z, a constant,

    L = ( CE(nn(z_1) P_2^T / T) + CE(nn(z_2) P_1^T / T) ) / 2,

where the N predictions of the other view are the candidates. The queue takes the projections of first views
after each step. It starts empty, and in the first step z itself stands for its neighbour; public code starts
with random rows, which nothing is near to.

lightly's NNCLR contrasts nn(z_1) and p_2 by NT-Xent instead, which has neighbours among the negatives too.
Published training: LARS, lr 0.3 x batch / 256, weight decay 1e-6, batch 4096.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import in_batch, unit
from ssl_zoo.heads import exact, mlp
from ssl_zoo.memory import Queue
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding, projection_std
from ssl_zoo.views.recipes import byol
from ssl_zoo.views.view import Views


@exact
def nearest(z: Tensor, queue: Tensor, valid: Tensor) -> Tensor:
    """The row of the queue (K, D) that is nearest to each row z (N, D), all of length 1: (N, D). Rows that
    `valid` (K,) does not name are not looked at; where there is none, z itself is given."""
    scores = (z @ queue.T).masked_fill(~valid, float("-inf"))  # (N, K)
    return torch.where(valid.any(), queue[scores.argmax(1)], z)


class NNCLR(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, three linear layers with a batch norm behind each.
        predictor_width: of the prediction head, Linear-BatchNorm-ReLU-Linear.
        queue: projections of earlier images that are kept, K.
        temperature: T.
        views: images to two views of one size; default: BYOL's, which are near to the paper's.

    Raises:
        ValueError: the backbone is not for images, a temperature that is not positive, or not two views of
            one size; from `forward`, a batch of one sample.
    """

    family = "contrastive"
    unit = "nats"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {
        "width": 8,
        "out": 8,
        "predictor_width": 8,
        "queue": 10,
        "temperature": 1.0,
    }

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 2048,
        out: int = 256,
        predictor_width: int = 4096,
        queue: int = 98_304,
        temperature: float = 0.1,
        views: Views | None = None,
    ):
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        super().__init__(backbone, views, byol)
        self.temperature = temperature
        self.project = mlp(backbone.dim, width, width, out, norm="batch", last="batch")
        self.predict = mlp(out, predictor_width, out, norm="batch")
        self.queue = Queue(queue, out)

    def forward(self, batch: Batch) -> Loss:
        z = self.embed(batch)  # (2 B, out)
        p1, p2 = self.predict(z).chunk(2)
        own = unit(z.detach())
        friends = nearest(own, self.queue.rows, self.queue.valid())
        self.queue.stash(own[: len(batch.x)])
        n1, n2 = friends.chunk(2)
        (one, found), (two, also) = in_batch(n1, p2, self.temperature), in_batch(n2, p1, self.temperature)
        parts = {"pair_found": (found + also).detach() / 2, "projection_std": projection_std(z)}
        return Loss((one + two) / 2, parts | {"neighbour_cosine": (friends * own).sum(1).mean()})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.queue.flush()

    def chance(self, rows: int) -> float:
        return math.log(rows)
