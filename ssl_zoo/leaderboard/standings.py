"""Standings of a board: its lines with what is recorded of them, in order, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from ssl_zoo.leaderboard import records, verdict
from ssl_zoo.leaderboard.board import NO_BACKBONE, Board, BoardError, Recipe
from ssl_zoo.leaderboard.board import load as load_board
from ssl_zoo.transfer.report import format_score, interval, metric

Record = dict[str, Any]  # of one line and seed, as results.jsonl holds it


@dataclass(frozen=True)
class Cell:
    """One line under one measure with one label budget and one training length: a value for each seed.

    Attributes:
        metric: name of the metric of the values.
        labels: the label budget; None for all labels.
        steps: the length of training; None where the protocol decides.
        seeds, values: the test score of each seed.
        train, choosing: how many labelled samples were trained on, and chosen on.
        seconds, flops: of stage 2, means over seeds. The search for settings is left out where the protocol
            tells it apart; flops is None where they were not counted.
        validation: the validation score of the settings that were chosen, mean over seeds; None where nothing
            was chosen.
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
        return format_score(self.metric, self.mean, self.interval)


def in_order(cells: Iterable[Cell]) -> list[tuple[int | float | None, int | None]]:
    """The points (labels, steps) of cells, each once: fewer labels first, then shorter training."""
    ordered = sorted(cells, key=lambda cell: (cell.train, cell.steps or 0))
    return list(dict.fromkeys((cell.labels, cell.steps) for cell in ordered))


def format_point(labels: int | float | None, steps: int | None) -> str:
    """One point of a curve in words: "25 labels a class", "1 % of labels", "all labels, 500 steps"."""
    if labels is None:
        words = "all labels"
    elif isinstance(labels, float):
        words = f"{100 * labels:g} % of labels"
    else:
        words = f"{labels} label{'s' * (labels != 1)} a class"
    return words if steps is None else f"{words}, {steps} steps"


@dataclass(frozen=True)
class Line:
    """A recipe and its records.

    Attributes:
        backbone: name of its configuration; "" where a floor has none.
        trunk: all overrides that shape the backbone, those of its tokenizer among them, so that two lines
            with the same trunk differ in pretraining alone (and in dropout, which has no weights).
        cells: measure -> its points, in the order of the records.
        records: seed -> the record that counts.
        shown_labels: as of `Board`.
    """

    recipe: Recipe
    backbone: str
    trunk: tuple[tuple[str, str], ...]
    cells: dict[str, tuple[Cell, ...]]
    records: dict[int, Record]
    shown_labels: float | None = None

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def title(self) -> str:
        return self.recipe.title

    @property
    def role(self) -> str:
        return self.recipe.role

    def headline(self, measure: str) -> Cell | None:
        """The cell that stands for a measure in a table with one column for it: that of the labels which the
        board shows, or where it has none of the fewest, and among these of the longest training; None where
        the line has no results of it."""
        cells = self.cells.get(measure)
        if not cells:
            return None
        if self.shown_labels is not None:
            cells = [cell for cell in cells if cell.labels == self.shown_labels] or cells
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
    """A board with its results.

    Attributes:
        name, title, about, hardware, primary, seeds, measures: see `Board`.
        lines: best first by the primary measure; those that have not run stand last.
        references: what others published.
        stale: line -> why its results are older than the code, the data or the recipe.
        checked: a sentence on the check that found the stale lines (see `verdict`).
    """

    name: str
    title: str
    about: str
    hardware: str
    primary: str
    seeds: tuple[int, ...]
    measures: Mapping[str, Mapping[str, Any]]
    lines: tuple[Line, ...]
    references: tuple[Reference, ...]
    stale: Mapping[str, str] = field(default_factory=dict)
    checked: str = ""

    @property
    def ranks(self) -> dict[str, int]:
        """The ranks of the pretrained lines, from 1. References and floors have none."""
        placed = [
            line.name for line in self.lines if line.role == "pretrained" and line.headline(self.primary)
        ]
        return {name: place for place, name in enumerate(placed, 1)}

    @property
    def ran(self) -> tuple[Line, ...]:
        """The lines that have run; all of them where none has."""
        return tuple(line for line in self.lines if line.records) or self.lines

    @property
    def leader(self) -> Line | None:
        """The best pretrained line, where one has run."""
        return next((line for line in self.lines if line.name in self.ranks), None)

    def label(self, measure: str) -> str:
        """The title of a measure."""
        return str(self.measures[measure].get("title", measure))

    def point(self, measure: str) -> str:
        """The point of a curve that the headline column shows, such as its label budget; "" where the measure
        has one point."""
        points = {(cell.labels, cell.steps) for line in self.lines for cell in line.cells.get(measure, ())}
        shown = next((cell for line in self.lines if (cell := line.headline(measure))), None)
        return format_point(shown.labels, shown.steps) if shown and len(points) > 1 else ""

    def heading(self, measure: str) -> str:
        """The title of a measure with its point."""
        return ", ".join(filter(None, (self.label(measure), self.point(measure))))


def arrange(lines: Sequence[Line], primary: str) -> tuple[Line, ...]:
    """The lines, best first by the mean of the primary measure. Lines without it stand last, by name."""

    def key(line: Line) -> tuple[bool, float, str]:
        cell = line.headline(primary)
        if cell is None:
            return True, 0.0, line.name
        return False, cell.mean if metric(cell.metric).lower else -cell.mean, line.name

    return tuple(sorted(lines, key=key))


def load(folder: str | Path) -> Standings:
    """The standings of the board in a folder.

    Raises:
        BoardError: there is no board, its files have a fault, or a record is damaged.
        ValueError: a metric has no line in `transfer.report.METRICS`.
    """
    return standings(load_board(Path(folder)))


def standings(board: Board) -> Standings:
    """The standings of a board, from its results.jsonl and its verdict as they are now.

    Raises:
        BoardError, ValueError: see `load`.
    """
    found: dict[str, dict[int, Record]] = {name: {} for name in board.recipes}
    for (line, seed), record in sorted(records.read(board.results).items()):
        if line not in found:
            raise BoardError(
                f"{board.results} has results of {line!r}, which is no recipe of {board.folder / 'recipes'}"
            )
        found[line][seed] = record
    known = verdict.read(board)
    lines = [_line(board, recipe, found[name]) for name, recipe in board.recipes.items()]
    return Standings(
        name=board.name,
        title=board.title,
        about=board.about,
        hardware=board.hardware,
        primary=board.primary,
        seeds=board.seeds,
        measures=board.measures,
        lines=arrange(lines, board.primary),
        references=tuple(_reference(board, one) for one in board.references),
        stale=known.stale if known else {},
        checked=verdict.format_verdict(board, known),
    )


def _reference(board: Board, said: Mapping[str, Any]) -> Reference:
    try:
        return Reference(**said)
    except TypeError:
        raise BoardError(
            f"{board.folder / 'references.yaml'}: {said.get('name', said)} "
            "must have name, source, scores, protocol"
        ) from None


def _line(board: Board, recipe: Recipe, found: dict[int, Record]) -> Line:
    every = {**board.fixed, **recipe.pretrain}
    network = recipe.floor not in NO_BACKBONE
    parts = ("backbone", "tokenizer")
    shape = (key for key in every if key.split(".")[0] in parts and not key.endswith(".dropout"))
    trunk = sorted((key, str(every[key])) for key in shape)
    return Line(
        recipe=recipe,
        backbone=str(every.get("backbone", "")) if network else "",
        trunk=tuple(trunk) if network else (),
        cells={name: cells for name in board.measures if (cells := _cells(found, name))},
        records=found,
        shown_labels=board.shown_labels,
    )


def _cells(records: Mapping[int, Record], measure: str) -> tuple[Cell, ...]:
    """The points of a measure, each over all seeds that have it."""
    points: dict[tuple[Any, Any], list[tuple[int, Record]]] = {}
    for seed, record in records.items():
        for result in record["measures"].get(measure, {}).get("results", ()):
            points.setdefault((result.get("labels"), result.get("steps")), []).append((seed, result))
    return tuple(_cell(labels, steps, found) for (labels, steps), found in points.items())


def _cell(labels: int | float | None, steps: int | None, found: list[tuple[int, Record]]) -> Cell:
    results = [result for _, result in found]
    names = {result["metric"] for result in results}
    if len(names) > 1:
        raise ValueError(f"seeds of one line have other metrics ({', '.join(sorted(names))}): run them again")
    chosen = [score for result in results if (score := result["chosen"].get("validation")) is not None]
    flops = [result["flops"] for result in results if result.get("flops")]
    return Cell(
        metric=results[0]["metric"],
        labels=labels,
        steps=steps,
        seeds=tuple(seed for seed, _ in found),
        values=tuple(result["value"] for result in results),
        train=results[0]["train"],
        seconds=fmean(result["details"].get("training_seconds", result["seconds"]) for result in results),
        flops=fmean(flops) if flops else None,
        choosing=results[0]["validation"],
        validation=fmean(chosen) if chosen else None,
    )
