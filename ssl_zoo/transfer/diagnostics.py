"""What the features are like, layer by layer, without any label: on validation rows, as nothing is scored.

- effective_rank: exp of the entropy of the singular values (RankMe: Garrido et al. 2023, eq. 1).
- feature_std: mean over dimensions of the std of the L2-normalised features, times sqrt(D): 1 for features
  spread evenly over the sphere, 0 for a collapse to one point (Chen & He 2021, "SimSiam", §4.1).
- alignment: mean squared distance of the two features of a positive pair; uniformity: log of the mean of
  exp(-2 |z - z'|^2) over pairs of samples (Wang & Isola 2020, "Understanding Contrastive Representation
  Learning through Alignment and Uniformity", §4.1); both on the unit sphere, lower is better.

A positive pair is two random crops (20 to 100 % of the area, flipped or not) of an image, or the two
halves of a text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import DataError, Rows, Subset
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.features import extract, first_depth, prepare
from ssl_zoo.transfer.measures import Measured, Subject
from ssl_zoo.views.recipes import crop_flip

METRICS = ("effective_rank", "feature_std", "alignment", "uniformity")


def spread(features: Tensor) -> dict[str, float]:
    """feature_std and effective_rank of features (N, D), of two rows or more."""
    unit = F.normalize(features.float(), dim=1)
    std = unit.std(0).mean() * features.shape[1] ** 0.5
    singular = torch.linalg.svdvals(unit)
    share = singular / singular.sum()
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {"feature_std": std.item(), "effective_rank": entropy.exp().item()}


def alignment(first: Tensor, second: Tensor) -> float:
    """Of positive pairs (N, D): 0 where both are the same, 2 where they have nothing in common."""
    return (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean().item()


def uniformity(features: Tensor) -> float:
    """Of features (N, D): 0 for one point; about -4 for points spread evenly over a large sphere."""
    return torch.pdist(F.normalize(features, dim=1)).square().mul(-2).exp().mean().log().item()


class Halves:
    """One of the two features of each positive pair, as rows: a random crop of an image, or half of a text.

    Args:
        rows: images or padded texts.
        backbone: what the images are made ready for (see `prepare`).
        which: 0 or 1. It picks the first or second half of a text, and other random crops of an image.
        seed: decides the crops.
    """

    def __init__(self, rows: Rows, backbone: Backbone, which: int, seed: int):
        self.rows, self.backbone, self.which, self.seed = rows, backbone, which, seed
        self.unit, self.units_per_row = rows.unit, rows.units_per_row
        self.y: np.ndarray | None = None
        self.classes: tuple[str, ...] = ()
        self.fingerprint = f"{rows.fingerprint}/half{which}-{seed}"

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        batch = self.rows.read(index, epoch)
        if batch.x.dim() == 2:
            return half(batch, self.which)
        x, _ = prepare(batch, self.backbone)
        seed_noise(self.seed, int(index[0]), self.which, 2)
        try:
            return Batch(crop_flip(x.shape[-2:], scale=(0.2, 1.0))(x))
        finally:
            free_noise()


def half(batch: Batch, which: int) -> Batch:
    """The first (0) or second (1) half of the tokens of each padded row; at least one token."""
    x, segments = batch.x, batch.segments
    sizes = torch.full((len(x),), x.shape[1]) if segments is None else (segments >= 0).sum(1)
    cut = (sizes // 2).clamp_min(1)
    start = torch.where(torch.tensor(which == 0) | (sizes < 2), 0, cut)  # (B,)
    count = torch.where(torch.tensor(which == 0), cut, (sizes - start).clamp_min(1))
    column = torch.arange(int(count.max()))
    at = (start[:, None] + column).clamp_max(x.shape[1] - 1)  # (B, T)
    inside = column < count[:, None]
    return Batch(x.gather(1, at), torch.where(inside, 0, -1), None)


@dataclass(frozen=True)
class Diagnostics:
    """Effective rank, std, alignment and uniformity of each layer. The value is the last effective rank.

    `details` holds the list over layers of each metric, the last of which is what a probe reads. Those of a
    text backbone open with the mean of its embeddings, and then `details["first"]` is 0.

    Args:
        limit: validation rows at most, chosen by seed 0.
    """

    name: ClassVar[str] = "diagnostics"
    stochastic: ClassVar[bool] = False
    limit: int = 2000

    def begin(self, subject: Subject, data: Any, seed: int) -> Callable[[Any], Measured]:
        """Raises DataError: data of another kind than the backbone reads, or fewer than two rows."""
        rows = subject.rows(data, "validation")
        if min(len(rows), self.limit) < 2:
            raise DataError(f"diagnostics need two validation rows or more: {len(rows)=}, limit={self.limit}")
        rows = Subset(rows, np.sort(np.random.default_rng(0).permutation(len(rows))[: self.limit]))

        def read(some: Rows) -> tuple[Tensor, ...]:
            found = extract(subject.backbone, some, device=subject.device, layers=True)
            return (*found.layers, found.pooled)

        whole = read(rows)
        pairs = zip(*(read(Halves(rows, subject.backbone, which, seed)) for which in (0, 1)), strict=True)
        curves: dict[str, list[float]] = {name: [] for name in METRICS}
        for features, (first, second) in zip(whole, pairs, strict=True):
            values = spread(features)
            values |= {"alignment": alignment(first, second), "uniformity": uniformity(features)}
            for name in METRICS:
                curves[name].append(values[name])
        last = {name: curve[-1] for name, curve in curves.items()}
        details = curves if (first := first_depth(subject.backbone)) else curves | {"first": first}
        found = Measured(METRICS[0], last.pop(METRICS[0]), last, {}, details, validation=len(rows))
        return lambda opened: found
