"""MoCo v2: find the key of the other view among those of earlier batches (He et al. 2020, algorithm 1; Chen
et al. 2020, arXiv:2003.04297).

With q the network's normalised projection of one view, k+ the one of the other view by a slow average of the
network, and k_j the K latest keys of earlier batches, in a queue,

    L = - mean_i log( exp(q_i . k_i+ / T) / (exp(q_i . k_i+ / T) + sum over j of exp(q_i . k_j / T)) )

After each step the average follows, f' <- m f' + (1 - m) f, and the batch's keys take the place of the oldest
ones. The queue starts empty, so that the first step has nothing to tell a key from; public code starts with
random keys. A network that has learned nothing has a loss of log(1 + K).

The paper shuffles the batch among GPUs for the keys, since batch norms of one GPU's rows tell the query
which few images its key was normalised with. Batch norms here are over the rows of all processes
(ssl_zoo.norm), and nothing is left to shuffle; a vision transformer has none.

Published training: SGD, lr 0.03 x batch / 256, weight decay 1e-4.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import info_nce, unit
from ssl_zoo.heads import mlp
from ssl_zoo.memory import Queue
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding
from ssl_zoo.teacher import Teacher
from ssl_zoo.views.recipes import weak
from ssl_zoo.views.view import Views


class MoCo(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, Linear-ReLU-Linear.
        queue: keys that are kept, K; need not be a multiple of the batch. Take few batches' worth of them
            where training is short.
        momentum: m, share of the average that a step leaves; 0.999 is a half-life of 693 steps.
        temperature: T.
        views: images to two views of one size, for query and key; default: the paper's.

    Raises:
        ValueError: the backbone is not for images, a temperature that is not positive, or not two views of
            one size.
    """

    family = "contrastive"
    unit = "nats"
    takes = ("vit", "cnn")
    whole_batch = False  # rows meet the queue, not each other
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "queue": 10, "momentum": 0.9}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 2048,
        out: int = 128,
        queue: int = 65_536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        views: Views | None = None,
    ):
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        super().__init__(backbone, views, weak)
        self.momentum, self.temperature = momentum, temperature
        self.project = mlp(backbone.dim, width, out)
        self.teacher = Teacher(backbone, self.project)
        self.queue = Queue(queue, out)

    def forward(self, batch: Batch) -> Loss:
        first, second = self.views(batch.x)[0].chunk(2)  # (B, 3, H, W) each
        q = unit(self.project(self.backbone(first).pooled))  # (B, out)
        slow, project = self.teacher
        with torch.no_grad():
            k = unit(project(slow(second).pooled))
        queue, valid = self.queue.rows, self.queue.valid()
        loss, found = info_nce(q, k, queue, valid, self.temperature)
        self.queue.stash(k)
        return Loss(loss, {"key_found": found.detach()})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum)
        self.queue.flush()

    def chance(self, rows: int) -> float:
        return math.log1p(len(self.queue.rows))
