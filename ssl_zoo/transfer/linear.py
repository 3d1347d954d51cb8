"""Multinomial logistic regression on standardised frozen features.

    minimise  mean_i CE(W z_i + b, y_i) + wd / 2 * |W|^2,   z = (x - mean) / std of the train rows

It is convex, so no learning rate is tuned: one run of preconditioned L-BFGS over all rows (see
`transfer.logistic`) goes through the weight decays of one grid, from strong to weak, and keeps what it has
learnt of the curvature. Each stops when a step promises less than a part in 30,000 of the loss gained
since W = 0. It is scikit-learn's LogisticRegression with C = 1 / (N * wd) for three or more classes
(for two, scikit-learn keeps one weight vector, and its penalty is that of wd / 2 here).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer.features import FeatureSet, finite, labels_of
from ssl_zoo.transfer.logistic import solve
from ssl_zoo.transfer.metrics import Metric, score

WEIGHT_DECAYS = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
TOLERANCE = 3e-5
# L-BFGS iterations for each weight decay. Separable data with hardly any decay would go on for ever; by then
# the predictions have long been settled.
ITERATIONS = 100


class Classifier(NamedTuple):
    """weight (C, D) and bias (C,) on features standardised by mean (D,) and std (D,)."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor

    def standardised(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)"""
        return (x - self.mean) / self.std

    def logits(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, C)"""
        return F.linear(self.standardised(x), self.weight, self.bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the same classifier on raw features, as a fine-tuned head starts."""
        weight = self.weight / self.std
        return weight, self.bias - weight @ self.mean


class Probe(NamedTuple):
    """The classifier chosen on validation, its weight decay and its validation score."""

    classifier: Classifier
    weight_decay: float
    validation: float


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std of each feature; a constant one keeps std 1, so that rounding noise stays small."""
    mean, std = x.mean(0), x.std(0, correction=0)
    return mean, torch.where(std <= 1e-6 * mean.abs(), torch.ones_like(std), std)


def fit_path(x: Tensor, y: Tensor, classes: int, weight_decays: Sequence[float]) -> dict[float, Classifier]:
    """The solution for each weight decay, from strong to weak.

    Args:
        x: (N, D) float32 features. y: (N,) int64 labels.

    Raises:
        DataError: features that are not finite.
        ValueError: no weight decays, or negative ones.
    """
    if min(weight_decays, default=-1.0) < 0:
        raise ValueError(f"weight_decays must be one or more, and none below 0, not {list(weight_decays)}")
    mean, std = statistics(finite(x))
    path = solve((x - mean).div_(std), y, classes, weight_decays, tolerance=TOLERANCE, max_iter=ITERATIONS)
    return {decay: Classifier(weight, bias, mean, std) for decay, (weight, bias) in path.items()}


def choose(
    train: FeatureSet,
    validation: FeatureSet,
    classes: int,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    metric: Metric = "accuracy",
) -> Probe:
    """The probe with the best validation score; of equals, the one with the strongest decay."""
    path = fit_path(train.pooled, labels_of(train), classes, weight_decays)
    y = labels_of(validation)
    z = next(iter(path.values())).standardised(validation.pooled)  # once: a path shares its statistics
    probes = [
        Probe(model, decay, score(metric, F.linear(z, model.weight, model.bias).argmax(1), y, classes))
        for decay, model in path.items()
    ]
    return max(probes, key=lambda probe: probe.validation)


def probe_layers(
    train: FeatureSet,
    validation: FeatureSet,
    classes: int,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    metric: Metric = "accuracy",
) -> list[Probe]:
    """One probe for each layer, each with its own best weight decay.

    Args:
        train, validation: features that were extracted with `layers=True`.

    Raises:
        DataError: features without layers.
    """
    if not train.layers:
        raise DataError("these features have no layers: extract them with layers=True")
    return [
        choose(FeatureSet(one, train.y), FeatureSet(two, validation.y), classes, weight_decays, metric)
        for one, two in zip(train.layers, validation.layers, strict=True)
    ]
