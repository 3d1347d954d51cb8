"""Contrasts: losses that compare the samples of the global batch with each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.distributed import gather, rank, world
from ssl_zoo.heads import exact


@exact
def nt_xent(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """NT-Xent of this process's rows against the global batch.

    Args:
        z: (2 N, D) projections; row i and row N + i are views of one sample. Need not be normalised.
        temperature: T.

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
def clip_loss(u: Tensor, v: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """CLIP's loss of this process's rows against the global batch.

    Args:
        u, v: (B, D) projections; rows of the same number are a pair. Need not be normalised.
        log_scale: s, which the cosines are multiplied by as e^s.

    Returns:
        The mean of both ways of cross-entropy, from u to v and from v to u, and the fraction of rows whose
        nearest row on the other side is their pair.
    """
    u, v = F.normalize(u, dim=1), F.normalize(v, dim=1)
    own = rank() * len(u) + torch.arange(len(u), device=u.device)
    ways = [log_scale.exp() * one @ gather(two).T for one, two in ((u, v), (v, u))]  # (B, world * B)
    found = torch.stack([(logits.argmax(1) == own).float().mean() for logits in ways]).mean()
    return torch.stack([F.cross_entropy(logits, own) for logits in ways]).mean(), found


@exact
def siglip_loss(u: Tensor, v: Tensor, log_scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """SigLIP's loss: each row of u with each of v is a pair or none. Arguments as of `clip_loss`."""
    u, v = F.normalize(u, dim=1), F.normalize(v, dim=1)
    own = rank() * len(u) + torch.arange(len(u), device=u.device)
    logits = log_scale.exp() * u @ gather(v).T + bias  # (B, world * B)
    sign = torch.full_like(logits, -1.0).scatter(1, own[:, None], 1.0)
    return -F.logsigmoid(sign * logits).sum() / len(u), (logits.argmax(1) == own).float().mean()
