"""SigLIP (Zhai et al. 2023, arXiv:2303.15343): does this caption belong to this image, yes or no?

With u_i and v_i the unit vectors of image and caption i of the N pairs of the undivided batch,

    L = -1/N sum_ij log sigmoid(y_ij (e^s u_i . v_j + b)),   y = 1 on the diagonal and -1 elsewhere

with s learnt from ln 10 and b from -10. Each process scores its own images with everybody's captions. The
paper pools images by a learnt query; here both towers are pooled by the mean.
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
def siglip_loss(u: Tensor, v: Tensor, log_scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """SigLIP's loss of this process's rows of u against the global batch of v.

    Args:
        u, v: (B, D) projections; rows of the same number are a pair. Need not be normalised.
        log_scale, bias: s and b.

    Returns:
        The loss, and the fraction of rows of u whose nearest row of v is their pair.
    """
    u, v = F.normalize(u, dim=1), F.normalize(v, dim=1)
    own = rank() * len(u) + torch.arange(len(u), device=u.device)
    others = gather(v)

    def judge(block: slice) -> tuple[Tensor, Tensor]:
        logits = log_scale.exp() * u[block] @ others.T + bias  # (block, world * B)
        sign = torch.full_like(logits, -1.0).scatter(1, own[block][:, None], 1.0)
        found = (logits.argmax(1) == own[block]).float().mean()
        return -F.logsigmoid(sign * logits).sum() / len(logits), found

    return in_blocks(judge, len(u), len(others))


class SigLIP(Towers):
    """A yes or no for each image with each caption of the batch. Arguments are those of `Towers`."""

    family = "pairs"
    takes = ("vit", "cnn")
    starts: ClassVar[dict[str, float]] = {"log_scale": math.log(10), "bias": -10.0}
    bias: Tensor

    def score(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return siglip_loss(u, v, self.log_scale, self.bias)
