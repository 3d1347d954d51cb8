"""Clusters of the rows of the training data, by k-means on the sphere (DeepCluster v2: Caron et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.distributed import of_first
from ssl_zoo.memory import Memory
from ssl_zoo.noise import rand_shared
from ssl_zoo.products import linear


@torch.no_grad()
def spherical_kmeans(rows: Tensor, filled: Tensor, order: Tensor, count: int, rounds: int = 10) -> Tensor:
    """Centroids of rows on the sphere: each is the unit mean of those that are nearest to it.

    Args:
        rows: (N, D) of length 1.
        filled: (N,) bool, which of them count.
        order: (N,) uniform noise; the filled rows with the least of it are the first centroids, and again
            where there are fewer of them. A centroid without members stays where it is.
        count: how many centroids there are. rounds: how often they are moved.

    Returns:
        (count, D), of length 1.
    """
    first = (order + ~filled).argsort()
    centroids = rows[first[torch.arange(count, device=rows.device) % filled.sum().clamp_min(1)]]
    for _ in range(rounds):
        nearest = torch.cat([linear(part, centroids).argmax(1) for part in rows.split(2**14)])  # (N,)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, rows * filled[:, None])
        length = sums.norm(dim=1, keepdim=True)
        centroids = torch.where(length > 0, sums / length.clamp_min(1e-12), centroids)
    return centroids


class Centroids(nn.Module):
    """Centroids of the rows of a `Memory`, which are on the sphere, in several sets (DeepCluster v2).

    They are random at first, made after the first step, and made anew after every so many.

    Args:
        sets: how many sets there are, H; set h is made of crop h mod G of the memory's rows (G, dim).
        count: centroids of a set, K. dim: width of a row.
        every: steps between two times that they are made.

    Attributes:
        value: (H, K, dim) float32, of length 1.

    Raises:
        ValueError: a number below 1.
    """

    value: Tensor

    def __init__(self, sets: int, count: int, dim: int, every: int):
        super().__init__()
        if min(sets, count, every) < 1:
            raise ValueError(f"{sets} sets of {count} centroids, made every {every} steps, cannot be")
        self.register_buffer("value", F.normalize(torch.randn(sets, count, dim), dim=2))
        self.every, self.steps = every, 0

    @torch.no_grad()
    def forward(self, rows: Tensor) -> Tensor:
        """The nearest centroids, of each set, of rows (B, G, dim): (H, B) int64."""
        rows = rows.to(self.value.dtype)
        with torch.autocast(rows.device.type, enabled=False):
            nearest = [(rows[:, h % rows.shape[1]] @ c.T).argmax(1) for h, c in enumerate(self.value)]
        return torch.stack(nearest)

    @torch.no_grad()
    def step(self, memory: Memory) -> None:
        """Note a step, and make centroids where it is time. To be called by `advance`, by all processes."""
        if self.steps % self.every == 0:
            noise = rand_shared(len(self.value), len(memory.rows)).to(self.value.device)
            for h, order in enumerate(noise):
                rows = memory.rows[:, h % memory.rows.shape[1]]
                self.value[h] = of_first(spherical_kmeans(rows, memory.filled, order, self.value.shape[1]))
        self.steps += 1

    def get_extra_state(self) -> Tensor:
        """The number of steps, which is saved. It is the host's, so that no device is waited for."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)
