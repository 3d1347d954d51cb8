"""Ranking of a board: its rows, what they got under each measure, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_zoo.leaderboard.board import Recipe
from ssl_zoo.leaderboard.cells import Cell, point_text
from ssl_zoo.transfer.report import metric

Record = dict[str, Any]  # one line of results.jsonl


@dataclass(frozen=True)
class Row:
    """A recipe and its records.

    Attributes:
        backbone: name of its configuration, empty where a floor has none. trunk: all words that shape the
            backbone, so that two rows with the same trunk differ in pretraining alone (and in dropout,
            which has no weights).
        cells: measure -> points in the order of the records. records: seed -> the line that counts.
    """

    recipe: Recipe
    backbone: str
    trunk: tuple[tuple[str, str], ...]
    cells: dict[str, tuple[Cell, ...]]
    records: dict[int, Record]

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def title(self) -> str:
        return self.recipe.title

    @property
    def family(self) -> str:
        return self.recipe.family

    def headline(self, measure: str) -> Cell | None:
        """What a table of one column a measure shows: the fewest labels, and then the longest training."""
        cells = self.cells.get(measure)
        if not cells:
            return None
        fewest = min(cells, key=lambda cell: cell.train).train
        return max((cell for cell in cells if cell.train == fewest), key=lambda cell: cell.steps or 0)


@dataclass(frozen=True)
class Reference:
    """A result that others published: scores by the text of their metric, and how their protocol differs."""

    name: str
    source: str
    scores: dict[str, float]
    protocol: str


@dataclass(frozen=True)
class Standings:
    """A board with its results. rows: best first by the primary measure, those not run at the end."""

    name: str
    title: str
    about: str
    hardware: str
    primary: str
    seeds: tuple[int, ...]
    measures: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...]
    references: tuple[Reference, ...]

    @property
    def ranks(self) -> dict[str, int]:
        """Places of the pretrained rows: references and floors stand between them without one."""
        placed = [row.name for row in self.rows if row.family == "pretrained" and row.headline(self.primary)]
        return {name: place for place, name in enumerate(placed, 1)}

    @property
    def leader(self) -> Row | None:
        """The best pretrained row, where one has run."""
        return next((row for row in self.rows if row.name in self.ranks), None)

    def label(self, measure: str) -> str:
        """The title of a measure."""
        return str(self.measures[measure].get("title", measure))

    def point(self, measure: str) -> str:
        """Which point of a curve the headline column shows, such as its label budget; empty for one point."""
        points = {(cell.labels, cell.steps) for row in self.rows for cell in row.cells.get(measure, ())}
        shown = next((cell for row in self.rows if (cell := row.headline(measure))), None)
        return point_text(shown.labels, shown.steps) if shown and len(points) > 1 else ""

    def heading(self, measure: str) -> str:
        """The title of a measure with its point."""
        return ", ".join(filter(None, (self.label(measure), self.point(measure))))


def arrange(rows: Sequence[Row], primary: str) -> tuple[Row, ...]:
    """Best first by the mean of the primary measure; rows without it last, in the order of their names."""

    def key(row: Row) -> tuple[bool, float, str]:
        cell = row.headline(primary)
        if cell is None:
            return True, 0.0, row.name
        return False, cell.mean if metric(cell.metric).lower else -cell.mean, row.name

    return tuple(sorted(rows, key=key))
