"""CLIP (Radford et al. 2021, arXiv:2103.00020): each image finds its caption, and each caption its image.

With u_i and v_i the unit vectors of image and caption i of the N pairs of the undivided batch,

    L = (CE(e^s u v^T, i) + CE(e^s v u^T, i)) / 2,   s learnt from ln(1 / 0.07), and never above ln 100

Each process scores its own rows against everybody's.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.contrast import in_blocks
from ssl_zoo.distributed import gather, rank
from ssl_zoo.heads import exact
from ssl_zoo.objectives._towers import Towers


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

    def one_way(one: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        def judge(block: slice) -> tuple[Tensor, Tensor]:
            logits = log_scale.exp() * one[block] @ others.T  # (block, world * B)
            found = (logits.argmax(1) == own[block]).float().mean()
            return F.cross_entropy(logits, own[block]), found

        return in_blocks(judge, len(one), len(others))

    losses, found = zip(one_way(u, gather(v)), one_way(v, gather(u)), strict=True)
    return torch.stack(losses).mean(), torch.stack(found).mean()


class CLIP(Towers):
    """A softmax over the captions of the batch, and one over its images. Arguments are those of `Towers`."""

    family = "pairs"
    takes = ("vit", "cnn")
    starts: ClassVar[dict[str, float]] = {"log_scale": math.log(1 / 0.07)}

    def score(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return clip_loss(u, v, self.log_scale)

    def chance(self, rows: int) -> float:
        return math.log(rows)

    @torch.no_grad()
    def advance(self, t: float) -> None:
        super().advance(t)
        self.log_scale.clamp_(max=math.log(100))
