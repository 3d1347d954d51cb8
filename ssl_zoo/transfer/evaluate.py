"""The one function that scores a backbone under a transfer protocol.

The test rows stay sealed until everything is chosen and fitted, and are opened once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import Rows, Subset
from ssl_zoo.transfer.features import place
from ssl_zoo.transfer.labels import budget, drawable, warn_of_single_rows
from ssl_zoo.transfer.metrics import METRICS, Metric, class_count, refuse_unseen, score, true_labels
from ssl_zoo.transfer.protocols import Protocol, Task
from ssl_zoo.transfer.report import Result
from ssl_zoo.transfer.sealed import Sealed


def evaluate(
    backbone: Backbone,
    train: Rows,
    validation: Rows,
    test: Rows | Sealed,
    protocol: Protocol,
    *,
    labels: int | float | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    metric: Metric = "accuracy",
    validation_limit: int | None = None,
    device: torch.device | str | None = None,
) -> Result:
    """Score a backbone on a task. The backbone is left as it was.

    Args:
        test: sealed until everything is fitted, then opened once for all seeds.
        labels: label budget (see `labels.budget`); each seed draws another subset of `train`.
        seeds: a protocol without randomness runs only the first when all labels are used; its
            result has one value and no interval.
        metric: what validation chooses by and `values` reports; the others are reported beside it.
        validation_limit: choose on this many validation rows at most (the same random ones for all
            seeds). These rows are labelled too: with a small budget, report how many there were.
        device: see `features.place`.

    Raises:
        DataError: rows without labels or with one class alone, test labels that train lacks, a budget that
            cannot be met, or test rows that were read.
        ValueError: seeds, a limit or a device that cannot be.
    """
    began = time.perf_counter()
    seeds = drawable(seeds)
    sealed = test if isinstance(test, Sealed) else Sealed(test)
    if validation_limit is not None and validation_limit < 1:
        raise ValueError(f"validation_limit must be at least 1, or None for all rows, not {validation_limit}")
    if validation_limit is not None and validation_limit < len(validation):
        order = np.random.default_rng(0).permutation(len(validation))
        validation = Subset(validation, np.sort(order[:validation_limit]))
    if labels is None and not protocol.stochastic:
        seeds = seeds[:1]
    y = true_labels(train, "train")
    classes = class_count(train, validation)
    if not isinstance(labels, int):  # so many a class were asked for
        warn_of_single_rows(y, train.classes)
    draws = {seed: budget(y, labels, seed, train.classes) for seed in seeds}
    task = Task(train, validation, draws, classes, metric, place(device))
    fitted = protocol.fit(backbone, task)
    opened = sealed.open(f"{protocol.name} with seeds {list(draws)}")
    truth = torch.from_numpy(true_labels(opened, "test"))
    refuse_unseen(truth.numpy(), opened, np.unique(y), "test")
    guesses = fitted.predict(opened)
    scores = {m: tuple(score(m, guess, truth, task.classes) for guess in guesses) for m in METRICS}
    return Result(
        protocol=protocol.name,
        metric=metric,
        seeds=tuple(draws),
        values=scores.pop(metric),
        others=scores,
        chosen=tuple(fitted.chosen),
        labels=labels,
        train=len(next(iter(draws.values()))),
        validation=len(validation),
        test=len(opened),
        seconds=time.perf_counter() - began,
        details=fitted.details,
    )
