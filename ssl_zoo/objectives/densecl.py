"""DenseCL: MoCo v2 for whole images and for each of their cells (Wang et al. 2021, arXiv:2011.09157, eq. 1 to
3).

A cell r of the query view has a projection q_r by a second head, of length 1. Its key k_r is the projection
of the other view's cell that is most like it in the backbone's features, by cosine. With o_j the K latest
mean cells of earlier images, in a second queue,

    L = (1 - w) L_MoCo - w mean_r log( exp(q_r . k_r / T) / (exp(q_r . k_r / T) + sum_j exp(q_r . o_j / T)) )

Keys come from a slow average of the network, and both queues start empty, as in MoCo. Cells are a CNN's last
map or a ViT's patches. Published training: SGD, lr 0.03 at a batch of 256, weight decay 1e-4.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import info_nce, unit
from ssl_zoo.heads import exact, mlp
from ssl_zoo.memory import Queue
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import take
from ssl_zoo.views.recipes import weak
from ssl_zoo.views.view import Views


@exact
def most_alike(cells: Tensor, others: Tensor) -> Tensor:
    """For each cell (B, N, D), the number of the cell of others (B, N, D) with the largest cosine: (B, N)."""
    return (F.normalize(cells, dim=2) @ F.normalize(others, dim=2).mT).argmax(2)


class DenseCL(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the head for images and of that for cells, Linear-ReLU-Linear each.
        queue: keys of images that are kept, and as many mean cells, K.
        momentum: share of the average that a step leaves.
        temperature: T.
        dense: w, the weight of the cells' loss, in [0, 1].
        views: images to two views of one size, for query and key; default: MoCo v2's.

    Raises:
        ValueError: the backbone is not for images, a temperature that is not positive, a weight out of range,
            or not two views of one size.
    """

    family = "contrastive"
    unit = "nats"
    takes = ("vit", "cnn")
    whole_batch = False  # rows meet the queues, not each other
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "queue": 10, "momentum": 0.9}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 2048,
        out: int = 128,
        queue: int = 65_536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        dense: float = 0.5,
        views: Views | None = None,
    ):
        if temperature <= 0 or not 0 <= dense <= 1:
            raise ValueError(f"temperature is positive and dense in [0, 1], not {temperature} and {dense}")
        super().__init__(backbone, views, weak)
        self.momentum, self.temperature, self.dense = momentum, temperature, dense
        self.project, self.project_cells = mlp(backbone.dim, width, out), mlp(backbone.dim, width, out)
        self.teacher = Teacher(backbone, self.project, self.project_cells)
        self.queue, self.cell_queue = Queue(queue, out), Queue(queue, out)

    def forward(self, batch: Batch) -> Loss:
        first, second = self.views(batch.x)[0].chunk(2)  # (B, 3, H, W) each
        seen = self.backbone(first)
        q = unit(self.project(seen.pooled))  # (B, out)
        q_cells = unit(self.project_cells(seen.tokens))  # (B, N, out)
        slow, project, project_cells = self.teacher
        with torch.no_grad():
            other = slow(second)
            k, cells = unit(project(other.pooled)), project_cells(other.tokens)
            at = most_alike(seen.tokens, other.tokens)
            k_cells = take(unit(cells), at)  # (B, N, out)
        whole, found = info_nce(q, k, self.queue.rows, self.queue.valid(), self.temperature)
        q_cells, k_cells = q_cells.flatten(0, 1), k_cells.flatten(0, 1)
        queue, valid = self.cell_queue.rows, self.cell_queue.valid()
        dense, cell_found = info_nce(q_cells, k_cells, queue, valid, self.temperature)
        self.queue.stash(k)
        self.cell_queue.stash(unit(cells.mean(1)))
        parts = {"key_found": found, "cell_found": cell_found, "dense": dense}
        return Loss(torch.lerp(whole, dense, self.dense), {name: x.detach() for name, x in parts.items()})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum)
        self.queue.flush()
        self.cell_queue.flush()

    def chance(self, rows: int) -> float:
        return math.log(1 + len(self.queue.rows))  # once the queues are full
