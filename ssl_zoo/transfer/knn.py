"""Weighted nearest neighbours on frozen features.

Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"; the
settings are those of DINO (Caron et al. 2021). The score of class c for a query q is

    sum over the k nearest i with y_i = c of exp(cos(q, x_i) / temperature)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.products import linear
from ssl_zoo.transfer.features import FeatureSet, finite, labels_of
from ssl_zoo.transfer.metrics import Metric, score

# Similarities of queries with the bank that are held at a time: 256 MiB, whatever the size of the bank.
SIMILARITIES = 2**26
# Rows of a bank that queries are compared with at a time. Of a larger bank all queries would else see all
# rows, a few queries at a time, which reads the bank from memory again and again.
BLOCK = 2**17


class Neighbours(NamedTuple):
    """The setting chosen on validation, and its validation score."""

    k: int
    temperature: float
    validation: float


def at_once(bank: int, most: int) -> int:
    """How many queries are compared with a bank of so many rows at a time: `most`, fewer for a large bank.

    Each query is still ranked against the whole bank (of up to BLOCK rows) by one `topk`, so of equals the
    same ones are chosen, however many queries there are at a time.
    """
    return max(1, min(most, SIMILARITIES // bank))


def predict(
    queries: Tensor,
    bank: Tensor,
    y: Tensor,
    classes: int,
    ks: Sequence[int],
    temperatures: Sequence[float],
    *,
    batch_size: int = 1024,
) -> dict[tuple[int, float], Tensor]:
    """Predicted classes (N,) for every (k, temperature), all from one top-k search.

    Args:
        queries: (N, D). bank: (M, D). y: (M,) labels of the bank.
        ks: a k beyond M counts as M; the keys keep the k that was asked for.
        batch_size: queries at a time at most; see `at_once`.

    Raises:
        ValueError: a k or a temperature that cannot be, or a bank that queries cannot be compared with.
        DataError: features that are NaN or infinite.
    """
    if min(ks, default=0) < 1 or min(temperatures, default=0) <= 0:
        raise ValueError(
            f"k must be at least 1 and temperatures above 0, and one of each be given, not {list(ks)} and "
            f"{list(temperatures)}"
        )
    if not len(bank) or len(bank) != len(y) or queries.shape[1:] != bank.shape[1:]:
        raise ValueError(
            f"queries {tuple(queries.shape)} cannot be compared with a bank {tuple(bank.shape)} of {len(y)} "
            "labels: take a bank (M, D), M at least 1, with M labels, and queries (N, D)"
        )
    if not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise ValueError(f"labels {int(y.min())} to {int(y.max())}, and {classes} classes count from 0")
    wide = torch.promote_types(torch.promote_types(queries.dtype, bank.dtype), torch.float32)
    queries, bank = finite(queries).to(wide), finite(bank).to(wide)
    if len(bank) <= BLOCK:
        bank = F.normalize(bank, dim=1)
    widest = min(max(ks), len(bank))
    parts: dict[tuple[int, float], list[Tensor]] = {(k, t): [] for k in ks for t in temperatures}
    for chunk in F.normalize(queries, dim=1).split(at_once(min(len(bank), BLOCK), batch_size)):
        similar, at = nearest(chunk, bank, widest)
        voters = y[at]  # (B, K)
        for temperature in temperatures:
            # Relative to the nearest: the same ranking, and no overflow at low temperatures.
            weights = ((similar - similar[:, :1]) / temperature).exp()
            for k in ks:
                votes = weights.new_zeros(len(chunk), classes)
                votes.scatter_add_(1, voters[:, :k], weights[:, :k])
                parts[k, temperature].append(votes.argmax(1))
    return {setting: torch.cat(part) for setting, part in parts.items()}


def nearest(queries: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cosines of queries (B, D) with the `count` nearest rows of a bank (M, D), nearest first, and which rows
    these are: (B, count) each.

    Queries are of length 1, and so are the rows of a bank of up to BLOCK rows.
    """
    if len(bank) <= BLOCK:
        return linear(queries, bank).topk(count, dim=1)  # pyright: ignore[reportReturnType]
    similar = queries.new_empty(len(queries), 0)
    at = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for first in range(0, len(bank), BLOCK):
        part = F.normalize(bank[first : first + BLOCK], dim=1)
        near, where = linear(queries, part).topk(min(count, len(part)), dim=1)
        similar, at = torch.cat([similar, near], 1), torch.cat([at, where + first], 1)
        similar, order = similar.topk(min(count, similar.shape[1]), dim=1)
        at = at.gather(1, order)
    return similar, at


def choose(
    train: FeatureSet,
    validation: FeatureSet,
    classes: int,
    ks: Sequence[int],
    temperatures: Sequence[float],
    metric: Metric = "accuracy",
) -> Neighbours:
    """The (k, temperature) with the best validation score; of equals, the first in the given order."""
    guesses = predict(validation.pooled, train.pooled, labels_of(train), classes, ks, temperatures)
    scores = {pair: score(metric, guess, labels_of(validation), classes) for pair, guess in guesses.items()}
    best = max(scores, key=lambda pair: scores[pair])
    return Neighbours(*best, scores[best])
