"""DeepCluster v2: predict the cluster of an image (Caron et al. 2018; as in Caron et al. 2020,
arXiv:2006.09882).

A memory holds the latest unit projections m_i of the large crops of every image. Spherical k-means of it
gives K centroids C, which are constants until it is done again. With z the unit projections of all crops v,

    L = mean_iv - log softmax(C z_iv / T)_a,    a = argmax_k C_k m_i,    and the mean over several C

The paper first fills its memory by a pass over the data, and keeps a as it was when C was made. Here an image
that is not in the memory yet has the cluster of its present projection, and a follows m_i, which is the same
where C is made in every epoch. The first C is made after the first step.

Published training: LARS, lr 4.8 for batches of 4,096, weight decay 1e-6, new centroids in each epoch.
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
from ssl_zoo.kmeans import Centroids
from ssl_zoo.memory import Memory
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import MultiCrop, projection_std
from ssl_zoo.views.recipes import swav
from ssl_zoo.views.view import Views


@exact
def prediction(z: Tensor, centroids: Tensor, cluster: Tensor, temperature: float) -> Tensor:
    """The loss of z (V * B, D) with H sets of centroids (H, K, D), for clusters (H, B) of the images."""
    scores = F.normalize(z, dim=1) @ centroids.mT / temperature  # (H, V * B, K)
    cluster = cluster.repeat(1, scores.shape[1] // cluster.shape[1])
    return F.cross_entropy(scores.flatten(0, 1), cluster.flatten())


class DeepCluster(MultiCrop):
    """Args:
        backbone: any vision backbone.
        rows: how many rows the training data has.
        every: steps between two times that centroids are made; the paper's are an epoch.
        prototypes, clusterings, temperature: K, how many sets of K centroids there are, and T.
        width, out: of the projection head, one hidden layer with batch norm and ReLU.
        views: crops; those of the first size are remembered. None: the paper's, small ones 3/7 as wide.

    Raises:
        ValueError: the backbone is not for images, an image has one crop, or a number that is not positive.
    """

    family = "clustering"
    unit = "nats"
    takes = ("vit", "cnn")
    reads = ("x", "index")
    tiny: ClassVar[dict[str, Any]] = {"rows": 12, "every": 2, "prototypes": 5, "width": 24, "out": 8}

    def __init__(
        self,
        backbone: ImageBackbone,
        rows: int,
        every: int,
        prototypes: int = 3000,
        clusterings: int = 3,
        temperature: float = 0.1,
        width: int = 2048,
        out: int = 128,
        views: Views | None = None,
    ):
        super().__init__(backbone, views, swav)
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        self.temperature = temperature
        self.project = mlp(backbone.dim, width, out, norm="batch")
        self.memory = Memory(rows, self.large, out)
        self.centroids = Centroids(clusterings, prototypes, out, every)

    def forward(self, batch: Batch) -> Loss:
        assert batch.index is not None
        z = self.embed(batch)
        now = unit(z.detach()).unflatten(0, (-1, len(batch.x)))[: self.large].transpose(0, 1)
        held = now
        if self.training:  # in evaluation the numbers may be those of other data
            self.memory.stash(batch.index, now)
            held, seen = self.memory.read(batch.index)
            held = torch.where(seen[:, None, None], held, now)
        cluster = self.centroids(held)  # (H, B)
        centroids = self.centroids.value
        loss = prediction(z, centroids, cluster, self.temperature)
        used = torch.zeros_like(centroids[..., 0]).scatter(1, cluster, 1.0).mean()  # share of all clusters
        return Loss(loss, {"clusters_used": used, "projection_std": projection_std(z)})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.memory.flush()
        self.centroids.step(self.memory)

    def chance(self, rows: int) -> float:
        return math.log(self.centroids.value.shape[1])
