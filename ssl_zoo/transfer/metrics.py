"""Scores of predicted classes; torchmetrics does the counting."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_matthews_corrcoef,
)

from ssl_zoo.data.rows import DataError, Rows

Metric = Literal["accuracy", "macro_f1", "matthews"]
METRICS: tuple[Metric, ...] = get_args(Metric)


def score(metric: Metric, predicted: Tensor, y: Tensor, classes: int) -> float:
    """One score of predicted (N,) against true (N,) classes, on the CPU.

    accuracy: fraction right, in [0, 1]. macro_f1: mean F1 over classes, in [0, 1]. matthews: the
    correlation coefficient in [-1, 1], 0 for a constant guess (CoLA's score).
    """
    if metric == "accuracy":
        return float(multiclass_accuracy(predicted, y, classes, average="micro"))
    if metric == "macro_f1":
        return float(multiclass_f1_score(predicted, y, classes, average="macro"))
    if metric == "matthews":
        return float(multiclass_matthews_corrcoef(predicted, y, classes))
    raise ValueError(f"unknown metric {metric!r}; the metrics are {', '.join(METRICS)}")


def true_labels(rows: Rows, name: str) -> np.ndarray:
    """The labels of rows that must have them; `name` is what the error calls the rows."""
    if rows.y is None:
        raise DataError(f"the {name} rows have no labels: transfer needs `y` in every split")
    return rows.y


def class_count(train: Rows, validation: Rows) -> int:
    """How many classes there are: the names of the labels, or the largest label seen plus one."""
    seen = int(max(true_labels(train, "train").max(), true_labels(validation, "validation").max())) + 1
    if train.classes and seen > len(train.classes):
        raise DataError(f"label {seen - 1} has no name: there are {len(train.classes)} class names")
    return max(seen, len(train.classes), 2)
