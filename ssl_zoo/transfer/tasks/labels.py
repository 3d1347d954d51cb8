"""Several labels a row, each of which may or may not apply: one logistic regression for each.

    minimise  mean over rows and labels of BCE(w_c z + b_c, y_c)

A label is told where its probability reaches a threshold, one for all labels, chosen on validation by macro
F1. Learning rates and weight decays are chosen by the mean average precision, which needs no threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_zoo.data.items import Item
from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer.late import multilabel_average_precision
from ssl_zoo.transfer.linear import fit_path
from ssl_zoo.transfer.protocols import linear_head
from ssl_zoo.transfer.tasks.goal import DRAWS, Examples, Goal, Score, listed, ratio, resampled
from ssl_zoo.transfer.tasks.names import numbered, read_names, read_number
from ssl_zoo.untrusted import Untrusted

THRESHOLDS = np.linspace(0.02, 0.98, 49)


class Labelled(NamedTuple):
    """labels: those that are told, the likeliest first. probabilities: of every label, by name."""

    file: str
    row: int | None
    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def text(self) -> str:
        """A line for people."""
        told = (f"{name} {self.probabilities[name]:.2f}" for name in self.labels)
        return ", ".join(told) or "none of the labels"

    def plain(self) -> dict[str, Any]:
        """The columns of a table, or the keys of a JSON object."""
        return {"labels": list(self.labels), "p": self.probabilities}


@dataclass(frozen=True)
class Labels(Goal):
    """Which of these labels apply. threshold: the least probability of one that is told."""

    task: ClassVar[str] = "labels"
    classes: tuple[str, ...]
    threshold: float = 0.5
    metric: str = "mAP"

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.classes)

    @classmethod
    def learnt(cls, train: Sequence[Item]) -> Labels:
        """The labels that train rows have. Raises DataError where none has any."""
        found = sorted({name for item in train for name in item.target})
        if not found:
            raise DataError(f"no row of {train[0].file} has a label: there is nothing to tell")
        return cls(tuple(found))

    def targets(self, items: Sequence[Item]) -> np.ndarray:
        """(N, C) float32 of 0 and 1. Raises DataError for a label that train lacks."""
        number = {name: i for i, name in enumerate(self.classes)}
        y = np.zeros((len(items), len(self.classes)), np.float32)
        for i, item in enumerate(items):
            y[i, numbered(item.target, item, number, "label")] = 1
        return y

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(out[:, 0].float(), y)

    def labelled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 0], y

    def path(self, x: Tensor, y: Tensor, decays: Sequence[float]) -> Iterator[tuple[float, nn.Linear]]:
        weights = {decay: torch.zeros(self.width, x.shape[1]) for decay in decays}
        biases = {decay: torch.zeros(self.width) for decay in decays}
        for c, column in enumerate(y.long().T):
            count = int(column.sum())
            if (
                not 0 < count < len(column)
            ):  # nothing tells rows apart: how often it was is all there is to say
                for decay in decays:
                    biases[decay][c] = math.log((count + 0.5) / (len(column) - count + 0.5))
                continue
            for decay, found in fit_path(x, column, 2, decays).items():
                weight, bias = found.folded()
                weights[decay][c], biases[decay][c] = weight[1] - weight[0], bias[1] - bias[0]
        for decay in sorted(decays, reverse=True):
            yield decay, linear_head(weights[decay], biases[decay])

    def settled(self, told: Sequence[Tensor], truth: Sequence[Any]) -> Labels:
        shares, y = probabilities(told), np.stack(list(truth)) > 0.5
        f1 = [macro_f1(counts(shares >= t, y).sum(0)) for t in THRESHOLDS]
        best = max(range(len(f1)), key=lambda i: (round(f1[i], 6), -abs(THRESHOLDS[i] - 0.5)))
        return replace(self, threshold=round(float(THRESHOLDS[best]), 4))

    def scores(self, told: Sequence[Tensor], truth: Sequence[Any], draws: int = DRAWS) -> dict[str, Score]:
        shares, y = probabilities(told), np.stack(list(truth)) > 0.5
        each = counts(shares >= self.threshold, y)

        def f1(index: np.ndarray) -> dict[str, float]:
            total = each[index].sum(0)
            return {"macro F1": macro_f1(total), "micro F1": macro_f1(total.sum(0, keepdims=True))}

        return {"mAP": Score(average_precision(shares, y)), **resampled(f1, len(y), draws)}

    def answers(self, told: Sequence[Tensor], items: Sequence[Item], rows: Examples) -> list[Labelled]:
        made = []
        for share, item in zip(probabilities(told), items, strict=True):
            every = {n: float(f"{p:.6g}") for n, p in zip(self.classes, share.tolist(), strict=True)}
            over = [n for n, p in zip(self.classes, share >= self.threshold, strict=True) if p]
            made.append(Labelled(item.file, item.row, tuple(sorted(over, key=lambda n: -every[n])), every))
        return made

    def title(self) -> str:
        return f"tells which of {len(self.classes)} labels apply ({listed(self.classes)})"

    def facts(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "threshold": self.threshold}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Labels:
        threshold = read_number(facts, "threshold")
        if not 0 <= threshold <= 1:
            raise Untrusted(f"threshold={threshold} is no probability")
        return cls(read_names(facts), threshold)


def probabilities(told: Sequence[Tensor]) -> np.ndarray:
    """(N, C) of the numbers (1, C) of each row."""
    return torch.cat(list(told)).float().sigmoid().numpy()


def counts(told: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, C, 3): whether a label is rightly told, wrongly told, or missed. From bools (N, C)."""
    return np.stack([told & y, told & ~y, ~told & y], 2).astype(np.int64)


def macro_f1(total: np.ndarray) -> float:
    """The mean over labels of F1, from `counts` (C, 3); 0 counts for one that is neither told nor true."""
    right, wrong, missed = total.T
    return float(ratio(2 * right, 2 * right + wrong + missed).mean())


def average_precision(shares: np.ndarray, y: np.ndarray) -> float:
    """The mean of the average precision of those labels that some row has; 0 where none has any."""
    there = y.any(0)
    if not there.any():
        return 0.0
    p, t = torch.from_numpy(shares[:, there]), torch.from_numpy(y[:, there]).long()
    if p.shape[1] == 1:  # which torchmetrics refuses
        p, t = p.repeat(1, 2), t.repeat(1, 2)
    return float(multilabel_average_precision(p, t, p.shape[1], average="macro"))
