"""Contrasts: losses that compare the samples of the global batch with each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.distributed import gather, rank, world
from ssl_zoo.heads import exact


@exact
def nt_xent(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """NT-Xent of this process's rows against the global batch (SimCLR, Chen et al. 2020, arXiv:2002.05709).

    For a row i and its pair j, with cosines s: -log(exp(s_ij / T) / sum_{k != i} exp(s_ik / T)), eq. 1.

    Args:
        z: (2 N, D) projections; row i and row N + i are views of one sample. They need not be normalised.
        temperature: T, by which cosines are divided.

    Returns:
        The loss, and the fraction of rows whose nearest other row is their pair.

    Raises:
        ValueError: the global batch is one sample, whose views have nothing to differ from.
    """
    if len(z) * world() < 4:
        raise ValueError(
            "a contrast compares samples, and here is one alone: its loss would be 0 whatever is learned. "
            "It needs 2 at least, and does better with hundreds: raise batch_size, or lower the accumulation "
            "steps that it is divided by (accumulate). Samples of all processes count"
        )
    z = F.normalize(z, dim=1)
    everyone = gather(z)  # (world * 2 N, D)
    rows = torch.arange(len(z), device=z.device)
    first = rank() * len(z)
    similarity = z @ everyone.T / temperature
    similarity = similarity.scatter(1, (first + rows)[:, None], float("-inf"))
    pair = first + (rows + len(z) // 2) % len(z)
    return F.cross_entropy(similarity, pair), (similarity.argmax(1) == pair).float().mean()


@exact
def koleo(x: Tensor) -> Tensor:
    """How close rows come to each other: - mean_i log || n(x_i) - n(x_j) ||, with j the nearest other row of
    the global batch and n() of length 1 (KoLeo, Sablayrolles et al. 2019, arXiv:1806.03198, section 3.2).

    As in DINOv2's code 1e-8 is added to each difference and to the distance; its nearest row, however, is one
    of the same process.

    Args:
        x: (N, D) rows of this process.

    Raises:
        ValueError: the global batch is one row, which has no other.
    """
    if len(x) * world() < 2:
        raise ValueError(
            "a row is kept away from the nearest other one, and here is one alone: raise batch_size"
        )
    x = F.normalize(gather(x), dim=1, eps=1e-8)
    with torch.no_grad():
        nearest = (x @ x.T).fill_diagonal_(-2).argmax(1)
    return -(F.pairwise_distance(x, x[nearest], eps=1e-8) + 1e-8).log().mean()
