"""What an evaluation reports: values over seeds, their mean and 95 % interval, and plain tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from scipy.special import stdtrit


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean over seeds; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = sum(values) / n
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    return mean - half, mean + half


def wilson(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent rows (Wilson 1927)."""
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count)


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        title: its name, with the unit where it has one.
        factor: what a value is multiplied by: 100 for percent.
        digits: how many digits follow the point.
        lower: whether less is better.
        scored: whether one way is better at all.
    """

    title: str
    factor: int = 100
    digits: int = 1
    lower: bool = False
    scored: bool = True

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
    "effective_rank": Metric("effective rank", 1, 1, scored=False),
    "feature_std": Metric("feature std (1: spread evenly, 0: collapsed)", 1, 2, scored=False),
    "alignment": Metric("alignment of positive pairs (0: the same)", 1, 2, scored=False),
    "uniformity": Metric("uniformity (0: one point)", 1, 2, scored=False),
}


def any_metric(name: str) -> Metric:
    """How a metric is shown. One that METRICS does not know is shown as it is, with three digits."""
    return METRICS.get(name, Metric(name, 1, 3))


def metric(name: str) -> Metric:
    """How a metric is shown.

    Raises:
        ValueError: a metric without a line in METRICS, of which nobody said which way is better.
    """
    if name not in METRICS:
        raise ValueError(f"metric {name!r} has no line in METRICS of ssl_zoo/transfer/report.py")
    return METRICS[name]


@dataclass(frozen=True)
class Result:
    """One line of a table: a backbone under a protocol or measure, with a label budget.

    Attributes:
        protocol: name of the protocol or measure, such as "knn", or of a floor, such as "tfidf".
        metric: name of the score in `values`, mostly a fraction (0.9 is 90 %).
        seeds: what was drawn for each value. values: one test score for each seed.
        others: metric -> one test score for each seed, for the metrics not chosen by.
        chosen: for each seed, the hyper-parameters chosen on validation and their validation score.
        labels: the label budget (see `labels.budget`); None for all labels, and for a measure.
        train, validation, test: how many rows of each split were used; train is 0 where nothing is fitted.
        steps: of fine-tuning, where a sweep varied them.
        details: more that a protocol says, such as the validation score of each layer.
        seconds: wall time of it all.
    """

    protocol: str
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    others: dict[str, tuple[float, ...]]
    chosen: tuple[dict[str, Any], ...]
    labels: int | float | None
    train: int
    validation: int
    test: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        return interval(self.values)

    @property
    def chosen_by(self) -> float | None:
        """The validation score of what was chosen, mean over the seeds that chose; None where none did."""
        found = [one["validation"] for one in self.chosen if "validation" in one]
        return fmean(found) if found else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values that `json.dump` takes, with the mean and the interval."""
        return asdict(self) | {"mean": self.mean, "interval": self.interval}

    def text(self) -> str:
        """The mean with half the interval: "91.3 ± 0.4" in percent; without it for a single seed."""
        return format_score(self.metric, self.mean, self.interval)


def format_score(name: str, mean: float, span: tuple[float, float] | None) -> str:
    """A mean with half its interval, "50.1 ± 0.4", as `any_metric` says; the mean alone without one."""
    how = any_metric(name)
    return how.text(mean) + ("" if span is None else f" ± {how.text((span[1] - span[0]) / 2)}")


def merge(results: Sequence[Result]) -> Result:
    """One result over the seeds of several that differ in nothing else."""
    first = results[0]
    return replace(
        first,
        seeds=tuple(seed for result in results for seed in result.seeds),
        values=tuple(value for result in results for value in result.values),
        others={m: tuple(v for result in results for v in result.others[m]) for m in first.others},
        chosen=tuple(choice for result in results for choice in result.chosen),
        seconds=sum(result.seconds for result in results),
        details={key: [x for result in results for x in result.details[key]] for key in first.details},
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned plain text: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])])


def format_protocol(result: Result) -> str:
    """The protocol, with the steps of fine-tuning where a sweep varied them: "finetune, 300 steps"."""
    return result.protocol if result.steps is None else f"{result.protocol}, {result.steps} steps"


def format_labels(result: Result) -> str:
    """The label budget: "25" for a class, "0.1" of all, "all", or "none" where nothing was fitted."""
    if not result.train:
        return "none"
    return "all" if result.labels is None else str(result.labels)


def results_table(named: Sequence[tuple[str, Result]]) -> str:
    """A table of named results (see `METRICS` for units)."""
    lines = [
        (
            name,
            format_protocol(result),
            format_labels(result),
            result.metric,
            result.text(),
            len(result.seeds),
            f"{result.seconds:.0f} s",
        )
        for name, result in named
    ]
    return table(("name", "protocol", "labels", "metric", "test", "seeds", "time"), lines)
