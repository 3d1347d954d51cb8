"""The table of an evaluation: what was measured, beside its floors, for a terminal, a notebook or code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.transfer.report import Result, any_metric, format_labels, format_protocol, results_table


class Row(NamedTuple):
    """One line: a backbone, or a floor, under a protocol.

    Attributes:
        name: "pretrained", or a floor such as "random, frozen".
        protocol, steps, labels, metric: how it was measured (see `Result`).
        mean: of the test scores; a fraction where the metric is one (0.9 is 90 %).
        interval: 95 %, of the mean over seeds; None for a single seed.
        values: one test score for each seed.
        seeds: what was drawn for each value.
        seconds: wall time of it all.
    """

    name: str
    protocol: str
    steps: int | None
    labels: int | float | None
    metric: str
    mean: float
    interval: tuple[float, float] | None
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Table:
    """What an evaluation found. It prints as the command prints it; in a notebook it is a table.

    Attributes:
        results: names and results in order, with everything that was found.
        doubts: what speaks against the figures, in sentences.
        folder: where the same lies as JSON.
    """

    results: tuple[tuple[str, Result], ...]
    doubts: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def rows(self) -> list[Row]:
        """The lines, in order."""
        return [
            Row(name, one.protocol, one.steps, one.labels, one.metric, one.mean, one.interval, one.values,
                one.seeds, one.seconds)
            for name, one in self.results
        ]  # fmt: skip

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, name: str) -> Row:
        """The line of that name.

        Raises:
            KeyError: no line or several have it, as in a sweep over label budgets: look through `rows`.
        """
        found = [row for row in self.rows if row.name == name]
        if len(found) != 1:
            names = ", ".join(dict.fromkeys(name for name, _ in self.results))
            raise KeyError(f"{len(found)} lines are called {name!r} (names: {names}): look through .rows")
        return found[0]

    def __str__(self) -> str:
        return "\n".join([results_table(self.results), *(f"WARNING: {doubt}" for doubt in self.doubts)])

    __repr__ = __str__

    def to_dict(self) -> list[dict[str, Any]]:
        """The lines as plain dicts."""
        return [row._asdict() for row in self.rows]

    def to_pandas(self) -> Any:
        """The lines as a DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas  # pyright: ignore[reportMissingImports]

        return pandas.DataFrame(self.to_dict())

    def _repr_html_(self) -> str:
        head = ("name", "protocol", "labels", "metric", "test", "seeds")
        body = [
            (name, format_protocol(one), format_labels(one), any_metric(one.metric).title, one.text(),
             len(one.seeds))
            for name, one in self.results
        ]  # fmt: skip
        doubts = "".join(f"<p><b>Warning:</b> {escape(doubt)}</p>" for doubt in self.doubts)
        return (
            f"<table><thead>{line('th', head)}</thead><tbody>"
            + "".join(line("td", cells) for cells in body)
            + f"</tbody></table>{doubts}"
        )


def line(tag: str, cells: Sequence[object]) -> str:
    """A row of an HTML table."""
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
