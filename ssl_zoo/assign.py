"""Soft assignments of samples to prototypes, which serve as targets: none has a gradient.

Scores are (N, K): those of this process's rows with K prototypes. Half precision becomes float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_zoo.distributed import everybody, total


def _wide(x: Tensor) -> Tensor:
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def sinkhorn(
    scores: Tensor, eps: float | Tensor = 0.05, rounds: int = 3, valid: Tensor | None = None
) -> Tensor:
    """Assign samples to prototypes so that all prototypes get the same share of them.

    exp(scores / eps) is divided in turn by its sums over the rows of all processes and by its sums over
    prototypes: the algorithm of Sinkhorn and Knopp (SwAV, Caron et al. 2020, arXiv:2006.09882, eq. 3).

    Args:
        scores: (N, K) cosines, or (N, ..., K), where each place between is balanced by itself.
        eps: the temperature; the smaller, the harder the assignment.
        rounds: how often both divisions are done.
        valid: (N,) bool, rows that count; None: all. Others are assigned, but take nobody's share, however
            large their scores.

    Returns:
        The shape of the scores, rows that sum to 1.
    """
    # In logarithms: exp of these numbers would overflow, or leave a row of zeros.
    log_q = _wide(scores) / eps
    # Rows that do not count are moved so far down that exp gives 0, but stay finite if no row counts at all.
    down = None if valid is None else (-1e4 * ~valid).to(log_q).view(-1, *[1] * (log_q.dim() - 1))
    for _ in range(rounds):
        counted = log_q if down is None else log_q + down
        most = everybody(counted.amax(0, keepdim=True)).amax(0)  # (..., K), so that exp is at most 1
        share = total((counted - most).exp().sum(0))  # 1 at least
        log_q = (log_q - most - share.log()).log_softmax(-1)
    return log_q.exp()


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """p^(1 / temperature), divided so that each row sums to 1 (MSN, Assran et al. 2022, arXiv:2204.07141).

    p (N, K), probabilities -> (N, K). A temperature below 1 sharpens.
    """
    return (_wide(p).log() / temperature).softmax(1)


def centre_softmax(scores: Tensor, centre: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax((scores - centre) / temperature) (DINO, Caron et al. 2021, arXiv:2104.14294, section 3.1).

    scores (N, K), centre (K,) -> (N, K).
    """
    return ((_wide(scores) - centre) / temperature).softmax(1)


def entropy(q: Tensor) -> Tensor:
    """The mean entropy of rows q (N, K): ln K where all prototypes are alike, 0 where one has all."""
    return -torch.xlogy(q, q).sum(1).mean()
