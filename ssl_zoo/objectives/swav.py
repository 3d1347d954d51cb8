"""SwAV: predict the prototypes of one crop from another (Caron et al. 2020, arXiv:2006.09882, eq. 1 to 4).

With s = z C' the cosines of projections z and K learnt prototypes C, crops g of the large ones, all crops v,

    q_g = Sinkhorn(s_g / eps): each image's shares of prototypes, of which all get as much of the batch
    L   = mean over g, and over v != g, of - sum_k q_gk log softmax(s_v / T)_k

The codes q are constants. Equal shares keep images from all having one code. Where the batch has fewer images
than there are prototypes, earlier images share the codes, too, from a queue; it fills from the start and
counts from a fraction of training on, once it is full (in the paper's code it only starts to fill then).

Published training: LARS, lr 4.8 for batches of 4,096 (0.6 for 256, queue of 3,840), weight decay 1e-6.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_zoo.assign import entropy, sinkhorn
from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.distributed import rank, world
from ssl_zoo.heads import Prototypes, mlp
from ssl_zoo.memory import Queue
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._distilled import distillation
from ssl_zoo.objectives._joint import MultiCrop, projection_std
from ssl_zoo.views.recipes import swav
from ssl_zoo.views.view import Views


class SwAV(MultiCrop):
    """Args:
        backbone: any vision backbone.
        prototypes, temperature, eps: K, T and eps.
        width, out: of the projection head, one hidden layer with batch norm and ReLU.
        frozen: fraction of training for which the prototypes stand still.
        queue: earlier projections kept for each large crop; 0: none.
        queue_from: fraction of training from which they count.
        views: crops; those of the first size have codes. None: the paper's, small ones 3/7 as wide.

    Raises:
        ValueError: the backbone is not for images, an image has one crop, or `temperature` or `eps` is not
            positive.
    """

    family = "clustering"
    unit = "nats"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"prototypes": 12, "width": 24, "out": 8, "queue": 6, "queue_from": 0.2}

    def __init__(
        self,
        backbone: ImageBackbone,
        prototypes: int = 3000,
        width: int = 2048,
        out: int = 128,
        temperature: float = 0.1,
        eps: float = 0.05,
        frozen: float = 0.01,
        queue: int = 0,
        queue_from: float = 0.04,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, swav)
        if min(temperature, eps) <= 0:
            raise ValueError(f"temperature and eps are positive, not {temperature} and {eps}")
        self.temperature, self.eps, self.frozen, self.queue_from = temperature, eps, frozen, queue_from
        self.project = mlp(backbone.dim, width, out, norm="batch")
        self.compare = Prototypes(out, prototypes)
        self.queue = Queue(queue, self.large * out) if queue else None

    @torch.no_grad()
    def codes(self, scores: Tensor) -> Tensor:
        """The codes of this process's images by scores (G, B, K) of their large crops: (G * B, K)."""
        if self.queue is None:
            return torch.cat([sinkhorn(s, self.eps) for s in scores])
        rows, count = self.queue.rows, len(self.queue.rows)
        earlier = self.compare(rows.unflatten(1, (len(scores), -1)).transpose(0, 1).flatten(0, 1))
        use = (self.t >= self.queue_from) & (self.queue.filled == count)
        mine = torch.arange(count, device=rows.device) % world() == rank()  # each counts in one process
        valid = torch.cat([torch.ones_like(scores[0, :, 0], dtype=torch.bool), mine & use])
        both = torch.cat([scores, earlier.unflatten(0, (-1, count))], 1)  # (G, B + queue, K)
        return torch.cat([sinkhorn(s, self.eps, valid=valid)[:-count] for s in both])

    def forward(self, batch: Batch) -> Loss:
        z, count = self.embed(batch), len(batch.x)
        scores = self.compare(z, (self.t >= self.frozen).to(self.t))  # (V * B, K)
        q = self.codes(scores.detach().unflatten(0, (-1, count))[: self.large])
        if self.queue is not None:
            self.queue.stash(z.unflatten(0, (-1, count))[: self.large].transpose(0, 1).flatten(1))
        loss = distillation(scores, q, count, self.temperature)
        used = torch.zeros_like(q[0]).scatter(0, q.argmax(1), 1.0).mean()  # share that is any's first
        parts = {"code_entropy": entropy(q), "prototypes_used": used, "projection_std": projection_std(z)}
        return Loss(loss, parts)

    def advance(self, t: float) -> None:
        super().advance(t)
        if self.queue is not None:
            self.queue.flush()

    def chance(self, rows: int) -> float:
        return math.log(len(self.compare.weight))
