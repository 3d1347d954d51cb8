"""Cells of a leaderboard: what one row got under one measure over seeds, and how its metric is shown."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_zoo.transfer.report import interval


@dataclass(frozen=True)
class Metric:
    """How a metric is shown. factor: 100 for percent. lower: whether less is better."""

    title: str
    factor: int = 100
    digits: int = 1
    lower: bool = False

    def text(self, value: float) -> str:
        return f"{self.factor * value:.{self.digits}f}"


METRICS = {
    "accuracy": Metric("accuracy, %"),
    "macro_f1": Metric("macro F1, %"),
    "exact_match": Metric("exact match, %"),
    "recall@1": Metric("recall at 1, %"),
    "matthews": Metric("Matthews correlation", 1, 3),
    "spearman": Metric("Spearman correlation", 1, 3),
    "pearson": Metric("Pearson correlation", 1, 3),
    "chrf": Metric("chrF, %"),
    "bits_per_byte": Metric("bits per byte", 1, 3, lower=True),
    "nats_saved": Metric("nats saved by context", 1, 3),
    "nats_per_token": Metric("nats per token", 1, 3, lower=True),
    "effective_rank": Metric("effective rank", 1, 1),
}


def metric(name: str) -> Metric:
    """How a metric is shown.

    Raises:
        ValueError: a metric without a line in METRICS, of which nobody said which way is better.
    """
    if name not in METRICS:
        raise ValueError(f"metric {name!r} has no line in METRICS of ssl_zoo/leaderboard/cells.py")
    return METRICS[name]


@dataclass(frozen=True)
class Cell:
    """One row under one measure with one label budget and one training length: a value for each seed.

    labels, steps: as in the records (None: all labels; the length that the protocol has by itself).
    train: labelled samples. seconds, flops: of stage 2, means over seeds; flops None where not counted.
    """

    metric: str
    labels: int | float | None
    steps: int | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    train: int
    seconds: float
    flops: float | None = None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        return interval(self.values)

    def text(self) -> str:
        """ "50.1 ± 0.4": the mean and half its 95 % interval, which one seed does not have."""
        shown, span = metric(self.metric), self.interval
        return shown.text(self.mean) + ("" if span is None else f" ± {shown.text((span[1] - span[0]) / 2)}")


def point_text(labels: int | float | None, steps: int | None) -> str:
    """One point of a curve in words: "25 labels a class", "1 % of labels", "all labels, 500 steps"."""
    if labels is None:
        words = "all labels"
    elif isinstance(labels, float):
        words = f"{100 * labels:g} % of labels"
    else:
        words = f"{labels} label{'s' * (labels != 1)} a class"
    return words if steps is None else f"{words}, {steps} steps"
