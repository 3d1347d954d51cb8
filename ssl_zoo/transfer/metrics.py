"""Scores of predicted classes; torchmetrics does the counting."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from torch import Tensor

from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.transfer.late import multiclass_accuracy, multiclass_f1_score, multiclass_matthews_corrcoef

Metric = Literal["accuracy", "macro_f1", "matthews"]
METRICS: tuple[Metric, ...] = get_args(Metric)


def score(metric: Metric, predicted: Tensor, y: Tensor, classes: int) -> float:
    """One score of predicted (N,) against true (N,) classes, on the CPU.

    accuracy: fraction right, in [0, 1]. macro_f1: mean F1 over classes, in [0, 1]. matthews: the
    correlation coefficient in [-1, 1], 0 for a constant guess (CoLA's score).

    Raises:
        ValueError: another metric.
    """
    if metric == "accuracy":
        return float(multiclass_accuracy(predicted, y, classes, average="micro"))
    if metric == "macro_f1":
        return float(multiclass_f1_score(predicted, y, classes, average="macro"))
    if metric == "matthews":
        return float(multiclass_matthews_corrcoef(predicted, y, classes))
    raise ValueError(f"unknown metric {metric!r}; the metrics are {', '.join(METRICS)}")


def true_labels(rows: Rows, name: str) -> np.ndarray:
    """The labels of rows that must have them; `name` is what the error calls the rows.

    Raises:
        DataError: no rows, no labels, labels that are no whole numbers, or negative ones.
    """
    if not len(rows):
        raise DataError(f"the {name} split has no rows")
    if rows.y is None:
        raise DataError(f"the {name} rows have no labels: transfer needs `y` in every split")
    if rows.y.dtype.kind not in "iu" or rows.y.shape != (len(rows),):
        raise DataError(
            f"the {name} rows have labels of type {rows.y.dtype} and shape {rows.y.shape}: {len(rows)} rows "
            "take as many whole numbers, int64"
        )
    if (lowest := int(rows.y.min())) < 0:
        raise DataError(f"the {name} rows have a label of {lowest}: labels count from 0")
    return rows.y.astype(np.int64, copy=False)


def title(rows: Rows, label: int) -> str:
    """What an error calls a class: its number, and its name where there is one."""
    return f"{label} ({rows.classes[label]})" if label < len(rows.classes) else str(label)


def refuse_one_class(y: np.ndarray, rows: Rows, name: str) -> None:
    """Raise DataError if all labels are the same: whatever is measured would be perfect."""
    if (y == y[0]).all():
        raise DataError(
            f"all {len(y)} {name} rows are of class {title(rows, int(y[0]))}: with one class nothing is left "
            "to tell apart. If classes are folders, `data` may name a folder too high or too low"
        )


def refuse_unseen(y: np.ndarray, rows: Rows, seen: np.ndarray, name: str) -> None:
    """Raise DataError if rows have labels that no train row has (`seen`): nothing could predict them."""
    unseen = ~np.isin(y, seen)
    if unseen.any():
        labels, counts = np.unique(y[unseen], return_counts=True)
        most = int(labels[counts.argmax()])
        raise DataError(
            f"{int(unseen.sum())} of {len(y)} {name} rows have labels that no train row has: {len(labels)} "
            f"unknown ones, mostly {title(rows, most)}; leave these rows out, or give train rows of them"
        )


def class_count(train: Rows, validation: Rows) -> int:
    """How many classes there are: the names of the labels, or the largest label seen plus one.

    Raises:
        DataError: a single class, or labels without a name.
    """
    y = true_labels(train, "train")
    seen = int(max(y.max(), true_labels(validation, "validation").max())) + 1
    if train.classes and seen > len(train.classes):
        raise DataError(f"label {seen - 1} has no name: there are {len(train.classes)} class names")
    refuse_one_class(y, train, "train")
    return max(seen, len(train.classes))
