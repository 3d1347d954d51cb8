"""Cells of a leaderboard: what one row got under one measure over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ssl_zoo.transfer.report import interval, written


@dataclass(frozen=True)
class Cell:
    """One row under one measure with one label budget and one training length: a value for each seed.

    labels, steps: as in the records (None: all labels; the length that the protocol has by itself).
    train, choosing: labelled samples trained and chosen on. validation: what was chosen scored there, None
        where nothing was. seconds, flops: of stage 2, without the search for settings where the protocol
        tells them apart; flops None where not counted. Of these, means over seeds.
    """

    metric: str
    labels: int | float | None
    steps: int | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    train: int
    seconds: float
    flops: float | None = None
    choosing: int = 0
    validation: float | None = None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        return interval(self.values)

    def text(self) -> str:
        """ "50.1 ± 0.4": the mean and half its 95 % interval, which one seed does not have."""
        return written(self.metric, self.mean, self.interval)


def in_order(cells: Iterable[Cell]) -> list[tuple[int | float | None, int | None]]:
    """The points (labels, steps) of cells, each once: fewer labels first, then shorter training."""
    ordered = sorted(cells, key=lambda cell: (cell.train, cell.steps or 0))
    return list(dict.fromkeys((cell.labels, cell.steps) for cell in ordered))


def point_text(labels: int | float | None, steps: int | None) -> str:
    """One point of a curve in words: "25 labels a class", "1 % of labels", "all labels, 500 steps"."""
    if labels is None:
        words = "all labels"
    elif isinstance(labels, float):
        words = f"{100 * labels:g} % of labels"
    else:
        words = f"{labels} label{'s' * (labels != 1)} a class"
    return words if steps is None else f"{words}, {steps} steps"
