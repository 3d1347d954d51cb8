"""A number a row: least squares on targets standardised by mean and std of train.

    minimise  mean_i (w z_i + b - t_i)^2 / 2 + wd / 2 * |w|^2,   t = (y - mean) / std

The frozen probe is ridge regression in closed form, which is scikit-learn's Ridge with alpha = N * wd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_zoo.data.items import Item
from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer.features import finite
from ssl_zoo.transfer.linear import statistics
from ssl_zoo.transfer.protocols import linear_head
from ssl_zoo.transfer.tasks.goal import DRAWS, Examples, Goal, Score, resampled
from ssl_zoo.transfer.tasks.names import read_number
from ssl_zoo.untrusted import Untrusted


class Estimate(NamedTuple):
    """value: the number that is told, in the units of the train rows."""

    file: str
    row: int | None
    value: float

    def text(self) -> str:
        """A line for people."""
        return f"{self.value:.6g}"

    def plain(self) -> dict[str, Any]:
        """The columns of a table, or the keys of a JSON object."""
        return {"value": self.value}


@dataclass(frozen=True)
class Regression(Goal):
    """A number. mean, std: of train rows, in their own units."""

    task: ClassVar[str] = "regression"
    mean: float
    std: float
    metric: str = "R2"
    width: int = 1

    @classmethod
    def learnt(cls, train: Sequence[Item]) -> Regression:
        """Mean and std of the train rows. Raises DataError where all have the same number."""
        y = np.array([item.target for item in train], np.float64)
        if not y.std() > 1e-9 * max(1e-300, np.abs(y).max()):
            raise DataError(
                f"all {len(y)} train rows have the number {y[0]:g}: there is nothing to tell apart"
            )
        return cls(float(y.mean()), float(y.std()))

    def targets(self, items: Sequence[Item]) -> np.ndarray:
        """(N,) float32, standardised."""
        return ((np.array([item.target for item in items], np.float64) - self.mean) / self.std).astype(
            np.float32
        )

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(out[:, 0, 0].float(), y)

    def labelled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 0], y

    def path(self, x: Tensor, y: Tensor, decays: Sequence[float]) -> Iterator[tuple[float, nn.Linear]]:
        mean, std = statistics(finite(x))
        z, t = ((x - mean) / std).double(), y.double()
        middle, level = z.mean(0), t.mean()
        z = z - middle
        values, basis = torch.linalg.eigh(z.T @ z / len(z))
        slope = basis.T @ (z.T @ (t - level)) / len(z)
        for decay in sorted(decays, reverse=True):
            floor = 1e-10 * float(values.max())  # directions in which nothing varies stay unused
            w = basis @ torch.where(
                values + decay > floor, slope / (values.clamp_min(0) + decay + 1e-30), 0.0
            )
            weight = (w / std.double()).float()[None]
            bias = (level - w @ middle).float() - weight @ mean
            yield decay, linear_head(weight, bias)

    def scores(self, told: Sequence[Tensor], truth: Sequence[Any], draws: int = DRAWS) -> dict[str, Score]:
        guess, y = self.units(told), np.array(list(truth), np.float64) * self.std + self.mean

        def all_of(index: np.ndarray) -> dict[str, float]:
            return measured(guess[index], y[index])

        return resampled(all_of, len(y), draws)

    def units(self, told: Sequence[Tensor]) -> np.ndarray:
        """(N,) float64 in the units of the train rows, of the numbers (1, 1) of each row."""
        return torch.cat(list(told))[:, 0].double().numpy() * self.std + self.mean

    def answers(self, told: Sequence[Tensor], items: Sequence[Item], rows: Examples) -> list[Estimate]:
        values = [float(f"{value:.7g}") for value in self.units(told)]
        return [Estimate(one.file, one.row, value) for one, value in zip(items, values, strict=True)]

    def title(self) -> str:
        return f"tells a number (in train {self.mean:.4g} ± {self.std:.4g})"

    def facts(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Regression:
        mean, std = read_number(facts, "mean"), read_number(facts, "std")
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise Untrusted(f"mean={mean} and std={std} are no units of a number")
        return cls(mean, std)


def measured(guess: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """R2, RMSE, MAE and Spearman's correlation of (n,) numbers; NaN where all that is true is the same."""
    off, spread = guess - y, ((y - y.mean()) ** 2).sum()
    return {
        "R2": float(1 - (off**2).sum() / spread) if spread > 0 else math.nan,
        "RMSE": float(np.sqrt((off**2).mean())),
        "MAE": float(np.abs(off).mean()),
        "Spearman": correlation(rankdata(guess), rankdata(y)),
    }


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, of (n,) and (n,); 0 where one side is all the same, as a constant guess is worth nothing."""
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0
