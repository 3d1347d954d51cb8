"""DCL: SimCLR without the coupling of pair and negatives (Yeh et al. 2022, arXiv:2110.06848, eq. 6 and 7).

With s_ik the cosines of 2N views divided by T, and i+ the other view of view i's image,

    L = mean_i ( - w_i s_ii+ + log sum over k not in {i, i+} of exp(s_ik) )

NT-Xent also has the pair in the sum. Its gradient is multiplied by one minus the pair's probability, which is
small in small batches, where pairs are easily found; here it is not. DCL has w = 1. DCLW weighs pairs that
lie apart more, w_i = 2 - exp(c_i / sigma) / mean_j exp(c_j / sigma) with c the cosines of pairs, a constant.

The mean over j is over the samples of all processes. Published training: SimCLR's, with batches of 256.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import by_pairs
from ssl_zoo.distributed import everybody
from ssl_zoo.heads import exact, mlp
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._joint import JointEmbedding
from ssl_zoo.views.recipes import simclr, twice
from ssl_zoo.views.view import Views


@exact
def decoupled(z: Tensor, temperature: float, sigma: float | None = None) -> tuple[Tensor, Tensor]:
    """The loss of projections z (2 N, D), of which rows i and N + i are views of one image, and the share of
    rows whose nearest other row is their pair."""
    one, two = z.detach().chunk(2)
    cosines = F.cosine_similarity(one, two).repeat(2)  # (2 N,)
    weights = torch.ones_like(cosines) if sigma is None else pair_weights(cosines, sigma)

    def judge(scores: Tensor, pair: Tensor, block: slice) -> tuple[Tensor, Tensor]:
        own = scores.gather(1, pair[:, None]).squeeze(1)  # (B,)
        others = scores.scatter(1, pair[:, None], float("-inf")).logsumexp(1)
        return (others - weights[block] * own).mean(), (scores.argmax(1) == pair).float().mean()

    return by_pairs(z, temperature, judge)


def pair_weights(cosines: Tensor, sigma: float) -> Tensor:
    """DCLW's weights of pairs, of which these are the cosines in this process: (N,) -> (N,). Their mean over
    all processes is 1."""
    scaled = cosines / sigma
    everyone = everybody(scaled)
    return 2 - len(everyone) * (scaled - everyone.logsumexp(0)).exp()


class DCL(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        temperature: T.
        sigma: of the weights of pairs, DCLW; None: all pairs weigh the same, DCL.
        width, out: of the projection head, Linear-ReLU-Linear, as SimCLR's.
        views: images to two views of one size; default: SimCLR's.

    Raises:
        ValueError: the backbone is not for images, a temperature or sigma that is not positive, or not two
            views of one size; from `forward`, a batch of one sample.
    """

    family = "contrastive"
    unit = "nats"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8, "sigma": 0.5}

    def __init__(
        self,
        backbone: ImageBackbone,
        temperature: float = 0.1,
        sigma: float | None = None,
        width: int = 2048,
        out: int = 128,
        views: Views | None = None,
    ):
        if temperature <= 0 or (sigma is not None and sigma <= 0):
            raise ValueError(f"temperature and sigma must be positive, not {temperature} and {sigma}")
        super().__init__(backbone, views, lambda size: twice(simclr(size)))
        self.temperature, self.sigma = temperature, sigma
        self.project = mlp(backbone.dim, width, out)

    def forward(self, batch: Batch) -> Loss:
        loss, found = decoupled(self.embed(batch), self.temperature, self.sigma)
        return Loss(loss, {"pair_found": found.detach()})

    def chance(self, rows: int) -> float:
        return math.log(2 * rows - 2)
