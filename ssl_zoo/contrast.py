"""Contrasts: losses that compare the samples of the global batch with each other.

Scores of a process's rows with those of the global batch are never held beyond `HELD`: of more, a block of
rows is scored at a time, and once more in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ssl_zoo.distributed import gather, rank, world
from ssl_zoo.heads import exact

HELD = 2**26  # scores that are held at a time: 256 MiB in float32

Judged = tuple[Tensor, Tensor]  # a loss, and the share of rows that are found


def in_blocks(judge: Callable[[slice], Judged], rows: int, columns: int) -> Judged:
    """The means over rows of what `judge` says of a block of them, which it scores with so many columns.

    `judge` gives means over its rows, and communicates with nobody: it is called again going backwards.
    """
    each = max(1, HELD // columns)
    if each >= rows:
        return judge(slice(0, rows))
    loss, found = [], []
    for first in range(0, rows, each):
        block = slice(first, min(first + each, rows))
        one, share = checkpoint(judge, block, use_reentrant=False, preserve_rng_state=False)  # pyright: ignore
        loss.append(one * ((block.stop - first) / rows))
        found.append(share * ((block.stop - first) / rows))
    return torch.stack(loss).sum(), torch.stack(found).sum()


@exact
def unit(rows: Tensor) -> Tensor:
    """Rows (..., D) of length 1: (..., D), float32 at least. Half precision would leave lengths 0.4 % off."""
    return F.normalize(rows, dim=-1)


def by_pairs(
    z: Tensor, temperature: float, judge: Callable[[Tensor, Tensor, slice], Judged]
) -> tuple[Tensor, Tensor]:
    """What is said of rows by their scores with the global batch: cosines, divided by T.

    Args:
        z: (2 N, D) projections, float32 at least; row i and row N + i are views of one sample. They need not
            be normalised.
        temperature: T.
        judge: makes a mean loss, and the share of rows that are found, of a block of B rows: their (B,
            world * 2 N) scores, -infinity between a row and itself; (B,) the columns of their pairs; and
            which rows they are.

    Raises:
        ValueError: the global batch is one sample, whose views have nothing to differ from.
    """
    _refuse_one(len(z) // 2)
    z = F.normalize(z, dim=1)
    everyone = gather(z)  # (world * 2 N, D)
    first = rank() * len(z)

    def of_block(block: slice) -> Judged:
        rows = torch.arange(block.start, block.stop, device=z.device)
        scores = F.linear(z[block], everyone) / temperature
        scores = scores.scatter(1, (first + rows)[:, None], float("-inf"))
        return judge(scores, first + (rows + len(z) // 2) % len(z), block)

    return in_blocks(of_block, len(z), len(everyone))


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
    return by_pairs(
        z,
        temperature,
        lambda scores, pair, _: (F.cross_entropy(scores, pair), (scores.argmax(1) == pair).float().mean()),
    )


@exact
def in_batch(q: Tensor, k: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE of this process's queries with keys of the global batch (van den Oord et al. 2018).

    For a query i with cosines s to all keys: -log(exp(s_ii / T) / sum_k exp(s_ik / T)).

    Args:
        q, k: (N, D) queries and keys; those of the same number belong together. They need not be normalised.
        temperature: T, by which cosines are divided.

    Returns:
        The loss, and the fraction of queries whose nearest key is their own.

    Raises:
        ValueError: the global batch is one sample, whose key has nothing to differ from.
    """
    _refuse_one(len(q))
    q, keys = F.normalize(q, dim=1), gather(F.normalize(k, dim=1))
    own = rank() * len(q) + torch.arange(len(q), device=q.device)

    def judge(block: slice) -> Judged:
        scores = q[block] @ keys.T / temperature  # (B, world * N)
        return F.cross_entropy(scores, own[block]), (scores.argmax(1) == own[block]).float().mean()

    return in_blocks(judge, len(q), len(keys))


@exact
def info_nce(
    q: Tensor, k: Tensor, others: Tensor, valid: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The loss of queries q (N, D) with their keys k (N, D) among the same other keys for all of them.

    For a query i: -log(exp(q_i . k_i / T) / (exp(q_i . k_i / T) + sum_j exp(q_i . o_j / T))).

    Args:
        q, k: (N, D) queries and keys. All rows are of length 1.
        others: (K, D) the other keys o_j, of earlier batches. They have no gradient.
        valid: (K,) bool, which of them there are; or (N, K), which of them each query is told from.
        temperature: T.

    Returns:
        The loss, and the fraction of queries whose nearest key is their own.
    """
    own = (q * k).sum(1, keepdim=True)  # (N, 1)
    scores = (q @ others.T).masked_fill(~valid, float("-inf"))  # (N, K)
    logits = torch.cat([own, scores], 1) / temperature
    first = torch.zeros(len(q), dtype=torch.long, device=q.device)
    return F.cross_entropy(logits, first), (logits.argmax(1) == 0).float().mean()


def _refuse_one(rows: int) -> None:
    if rows * world() < 2:
        raise ValueError(
            "a contrast compares samples, and here is one alone: its loss would be 0 whatever is learned. "
            "It needs 2 at least, and does better with hundreds: raise batch_size, or lower the accumulation "
            "steps that it is divided by (accumulate). Samples of all processes count"
        )


@exact
def koleo(x: Tensor) -> Tensor:
    """How close rows come to each other: - mean_i log || n(x_i) - n(x_j) ||, with j the nearest other row of
    the global batch and n() of length 1 (KoLeo, Sablayrolles et al. 2019, arXiv:1806.03198, section 3.2).

    As in DINOv2's code, 1e-8 is added to each difference and to the distance. That code looks for the nearest
    row among those of a process.

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
        found = []
        for first in range(0, len(x), each := max(1, HELD // len(x))):
            scores = x[first : first + each] @ x.T
            own = torch.arange(first, first + len(scores), device=x.device)
            found.append(scores.scatter_(1, own[:, None], -2).argmax(1))
        nearest = torch.cat(found)
    return -(F.pairwise_distance(x, x[nearest], eps=1e-8) + 1e-8).log().mean()


@exact
def negative_sampling(
    centre: Tensor, context: Tensor, pairs: Tensor, negatives: Tensor, count: float
) -> Tensor:
    """The sum over pairs of word2vec's loss (Mikolov et al. 2013, arXiv:1310.4546, eq. 4), negatives shared.

    Of a pair: -log s(u . v) - k mean over negatives n of log s(-u . n), with s the logistic function.

    Args:
        centre, context: (B, T, D) and (B, S, D). pairs: (B, T, S), what each pair counts.
        negatives: (K, D). count: how many negatives a pair has, k.
    """
    found = (F.softplus(-centre @ context.transpose(1, 2)) * pairs).sum()
    against = F.softplus(F.linear(centre, negatives)).mean(-1)  # (B, T)
    return found + count * (against * pairs.sum(-1)).sum()
