"""What an evaluation reports: values over seeds, their mean and 95 % interval, and plain tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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


@dataclass(frozen=True)
class Result:
    """One row of a table: a backbone under a protocol or measure, with a label budget.

    Attributes:
        protocol: "knn", "linear", "layers", "finetune" or a floor.
        metric: name of the score in `values`, a fraction (0.9 is 90 %).
        seeds: what was drawn for each value. values: one test score for each seed.
        others: metric -> one test score for each seed, for the metrics not chosen by.
        chosen: for each seed, the hyper-parameters chosen on validation and their validation score.
        labels: the label budget (see `labels.budget`). train, validation, test: rows that were used.
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values that `json.dump` takes, with the mean and the interval."""
        return asdict(self) | {"mean": self.mean, "interval": self.interval}

    def text(self) -> str:
        """The mean with half the interval: "91.3 ± 0.4" in percent; without it for a single seed."""
        return written(self.metric, self.mean, self.interval)


# Metrics that are no fractions, and so are not shown in percent; the others are between -1 and 1.
PLAIN = frozenset(
    {
        "bits_per_byte", "nats_per_token", "early_minus_late", "effective_rank", "alignment",
        "uniformity", "feature_std",
    }
)  # fmt: skip


def written(metric: str, mean: float, span: tuple[float, float] | None) -> str:
    """A mean with half its interval, in percent or as it is (see `PLAIN`)."""
    scale, digits = (1, 3) if metric in PLAIN else (100, 1)
    half = "" if span is None else f" ± {scale * (span[1] - span[0]) / 2:.{digits}f}"
    return f"{scale * mean:.{digits}f}{half}"


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


def results_table(named: Sequence[tuple[str, Result]]) -> str:
    """A table of named results (see `written` for units)."""
    rows = [
        (
            name,
            result.protocol if result.steps is None else f"{result.protocol}, {result.steps} steps",
            "all" if result.labels is None else result.labels,
            result.metric,
            result.text(),
            len(result.seeds),
            f"{result.seconds:.0f} s",
        )
        for name, result in named
    ]
    return table(("name", "protocol", "labels", "metric", "test", "seeds", "time"), rows)
