"""How the next id is drawn from the logits of all ids.

Temperature divides the logits; top-k keeps the k likeliest ids (Fan et al. 2018); top-p keeps the fewest
likeliest whose probabilities reach p (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration",
eq. 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_zoo.noise import fold

ALTERNATIVES = 3


class Step(NamedTuple):
    """One generated id.

    Attributes:
        id: the id that was drawn.
        p: the probability that the model gave it, before temperature, top-k and top-p.
        alternatives: the likeliest other ids, each with its probability, likeliest first.
    """

    id: int
    p: float
    alternatives: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Choice:
    """How the next id is drawn.

    Args:
        temperature: divides the logits, finite; 0 takes the likeliest id.
        top_k: ids to draw from at most; None = all. top_p: probability to keep; 1 = all.
        seed: decides all draws; row i draws the same whatever the other rows are.
        first: the number of the first row: rows that are written in parts draw as they would together.

    Raises:
        ValueError: a setting under which nothing can be drawn.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    first: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is 0 or more, and finite, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is 1 or more, not {self.top_k}; None keeps all")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is above 0 and at most 1, not {self.top_p}")

    def noise(self, row: int, *shape: int) -> Tensor:
        """Uniform noise in [0, 1) for all draws of one row: (*shape) float32 on the CPU."""
        number = fold("generate", self.seed, self.first + row)
        return torch.rand(shape, generator=torch.Generator().manual_seed(number))


def probabilities(logits: Tensor, choice: Choice) -> Tensor:
    """The probabilities that ids are drawn with: logits (B, V) -> (B, V) float64.

    Of ids that are equally likely, top-k and top-p keep the first.
    """
    if choice.temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float64).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    ordered, order = logits.double().sort(dim=1, descending=True, stable=True)
    p = (ordered / choice.temperature).softmax(1)
    if choice.top_k is not None:
        p[:, choice.top_k :] = 0
        p = p / p.sum(1, keepdim=True)
    p = torch.where(p.cumsum(1) - p < choice.top_p, p, 0.0)  # kept: what lies before does not reach it
    p = p / p.sum(1, keepdim=True)
    return torch.zeros_like(p).scatter_(1, order, p)


def draw(p: Tensor, u: Tensor) -> Tensor:
    """The ids at which the running sum of p (B, V) first exceeds u (B,) in [0, 1): (B,) int64."""
    at = torch.searchsorted(p.cumsum(1), u[:, None].to(p), right=True)[:, 0]
    last = p.shape[1] - 1 - (p > 0).flip(1).int().argmax(1)  # a sum may stay a rounding error below 1
    return torch.minimum(at, last)


def drawn(logits: Tensor, choice: Choice, u: Tensor) -> list[Step]:
    """One id for each row of logits (B, V), float32 on the CPU, drawn by u (B,) in [0, 1)."""
    ids, p = draw(probabilities(logits, choice), u), logits.softmax(1)
    top = p.topk(min(ALTERNATIVES + 1, p.shape[1]), dim=1)
    found = []
    for n, one in enumerate(ids.tolist()):
        others = zip(top.indices[n].tolist(), top.values[n].tolist(), strict=True)
        found.append(Step(one, float(p[n, one]), tuple([o for o in others if o[0] != one][:ALTERNATIVES])))
    return found
