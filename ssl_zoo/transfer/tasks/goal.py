"""What a model is tuned to tell where that is not one class a row: the interface of a goal, and its scores.

A head reads points: the one pooled feature of an image or a text, the words of a sentence, the cells of an
image. It gives as many numbers for each as the goal is wide.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, Features
from ssl_zoo.data.items import Item
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.linear import fit_path
from ssl_zoo.transfer.protocols import linear_head

DRAWS = 300  # resamples of the rows, for an interval
IGNORED = -100  # the target of a point that counts for nothing


class Score(NamedTuple):
    """A score, with the 95 % interval that resampled rows give; None where it has none."""

    value: float
    interval: tuple[float, float] | None = None

    def plain(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"value": self.value} | ({} if self.interval is None else {"interval": list(self.interval)})


class Examples(Interface):
    """Inputs with what is true of each. They are `Rows` whose y is what the loss of the goal takes."""

    fingerprint: str

    def __len__(self) -> int: ...

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch: ...

    def truth(self, i: int) -> Any:
        """What is true of one, as the goal's scores take it; None where nobody knows."""
        ...


class Goal(ABC):
    """What a model is tuned to tell.

    Attributes:
        task: its name, as in task=NAME.
        metric: the score that validation chooses by; more is better.
        width: numbers that the head gives for a point.
    """

    task: ClassVar[str]
    metric: str
    width: int

    def points(self, found: Features) -> Tensor:
        """What the head reads of a batch: (B, M, D)."""
        return found.pooled[:, None]

    def head(self, backbone: Backbone) -> nn.Module:
        """A head that starts at zero, (B, M, D) -> (B, M, width)."""
        return linear_head(torch.zeros(self.width, backbone.dim), torch.zeros(self.width))

    @abstractmethod
    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """The scalar to minimise, of the head's numbers (B, M, width) and the targets of a batch."""

    @abstractmethod
    def labelled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The points (P, D) of a batch (B, M, D) that have a target, and their targets (P, ...)."""

    @abstractmethod
    def path(self, x: Tensor, y: Tensor, decays: Sequence[float]) -> Iterator[tuple[float, nn.Linear]]:
        """The best linear head for each weight decay, of points and targets as `labelled` gives them."""

    def each(self, out: Tensor, y: Tensor) -> list[Tensor]:
        """Numbers, or features, of a batch (B, M, K), parted into those of each row: (m, K)."""
        return list(out)

    def settled(self, told: Sequence[Tensor], truth: Sequence[Any]) -> Goal:
        """The goal, with what is still to be chosen on validation."""
        return self

    @abstractmethod
    def scores(self, told: Sequence[Tensor], truth: Sequence[Any], draws: int = DRAWS) -> dict[str, Score]:
        """Scores by name, `metric` the first, of the numbers (m, width) and the truth of each row.

        draws: resamples of the rows for an interval; 0 = none.
        """

    @abstractmethod
    def answers(self, told: Sequence[Tensor], items: Sequence[Item], rows: Examples) -> list[Any]:
        """What is told of each row: an object with file, row, `text()` for people and `plain()` for files.

        Args:
            items: the rows as they were found, for their names. rows: the same, as they were read.
        """

    @abstractmethod
    def title(self) -> str:
        """What it tells, for people."""

    def fits(self, backbone: Backbone) -> bool:
        """Whether the points of a backbone are those that the goal was made for."""
        return True

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Plain JSON values from which `of` makes the same goal."""

    @classmethod
    @abstractmethod
    def of(cls, facts: Mapping[str, Any]) -> Goal:
        """The goal that a saved model has. Raises Untrusted for facts that cannot be."""


def softmax_path(
    x: Tensor, y: Tensor, classes: int, decays: Sequence[float]
) -> Iterator[tuple[float, nn.Linear]]:
    """Multinomial logistic regression for each weight decay (see `transfer.linear`)."""
    for decay, found in fit_path(x, y, classes, decays).items():
        yield decay, linear_head(*found.folded())


def resampled(score: Callable[[np.ndarray], dict[str, float]], count: int, draws: int) -> dict[str, Score]:
    """Scores of all rows, each with the 95 % interval of its values on rows drawn with replacement.

    Args:
        score: from the numbers of rows (n,) to scores by name. Those that are not finite count for nothing.
        count: how many rows there are. draws: how many resamples of them.
    """
    draw = np.random.default_rng(0)
    found = score(np.arange(count))
    again = [score(draw.integers(count, size=count)) for _ in range(draws if count > 1 else 0)]
    made = {}
    for name, value in found.items():
        values = [one[name] for one in again if math.isfinite(one[name])]
        low, high = np.quantile(values, (0.025, 0.975)).tolist() if values else (0.0, 0.0)
        made[name] = Score(value, (low, high) if values else None)
    return made


def ratio(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray:
    """part / whole, and 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=np.asarray(whole) > 0)


def listed(names: Sequence[str]) -> str:
    """The first of the names, for people."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
