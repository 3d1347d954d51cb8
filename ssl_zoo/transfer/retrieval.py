"""Retrieval: is the nearest other test sample of the same class?

Recall@k as in metric learning (Oh Song et al. 2016, "Deep Metric Learning via Lifted Structured Feature
Embedding", §6): each test sample is the query once, all the others are the gallery, cosine similarity, and a
query counts when one of its k nearest has its class. Nothing is fitted and nothing chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.transfer.features import extract, labels_of
from ssl_zoo.transfer.knn import at_once
from ssl_zoo.transfer.measures import Measured, Subject
from ssl_zoo.transfer.metrics import refuse_one_class, true_labels


def recall(features: Tensor, y: Tensor, ks: Sequence[int], batch_size: int = 1024) -> dict[int, float]:
    """Recall at each k of features (N, D) with labels y (N,), every sample against all others.

    Raises:
        ValueError: a k below 1, or not below N.
    """
    if min(ks, default=0) < 1 or max(ks) >= len(features):
        raise ValueError(
            f"k must lie from 1 to {len(features) - 1} with {len(features)} samples, not {list(ks)}"
        )
    unit = F.normalize(features, dim=1)
    hits, batch_size = dict.fromkeys(ks, 0), at_once(len(unit), batch_size)
    for start in range(0, len(unit), batch_size):
        queries = unit[start : start + batch_size]
        similar = queries @ unit.T  # (B, N)
        own = torch.arange(len(queries))
        similar[own, start + own] = -torch.inf
        nearest = y[similar.topk(max(ks), dim=1).indices]  # (B, K)
        right = nearest == y[start : start + batch_size, None]
        for k in ks:
            hits[k] += int(right[:, :k].any(1).sum())
    return {k: count / len(unit) for k, count in hits.items()}


def own_rank(queries: Tensor, gallery: Tensor, batch_size: int = 1024) -> Tensor:
    """How many of the gallery (N, D) lie nearer to query i of (N, D) than gallery i, its own: (N,) float64.

    Of those that lie as near as its own, half count: where all features are one point, nothing is found.
    """
    found, batch_size = [], at_once(len(gallery), batch_size)
    for start in range(0, len(queries), batch_size):
        similar = queries[start : start + batch_size] @ gallery.T  # (B, N)
        own = similar.diagonal(start)[:, None]
        at_least_as_near = (~(similar < own)).sum(1) - 1  # without its own
        found.append(((similar > own).sum(1) + at_least_as_near).double() / 2)
    return torch.cat(found)


@dataclass(frozen=True)
class Retrieval:
    """Recall among the test samples.

    Args:
        ks: how many neighbours may hold one of the class; the first is what a table is ranked by.
    """

    name: ClassVar[str] = "retrieval"
    stochastic: ClassVar[bool] = False
    ks: Sequence[int] = (1, 5, 10)

    def begin(self, subject: Subject, data: Any, seed: int) -> Callable[[Any], Measured]:
        """Nothing is fitted. Act two raises DataError for test rows without labels or with one class alone,
        and ValueError for a k that is not below the number of test rows."""

        def finish(opened: Any) -> Measured:
            rows = subject.rows(opened, "test")
            refuse_one_class(true_labels(rows, "test"), rows, "test")
            features = extract(subject.backbone, rows, device=subject.device)
            found = recall(features.pooled, labels_of(features), self.ks)
            first, *rest = (f"recall@{k}" for k in self.ks)
            others = {name: found[k] for name, k in zip(rest, self.ks[1:], strict=True)}
            return Measured(first, found[self.ks[0]], others, test=len(features.pooled))

        return finish
