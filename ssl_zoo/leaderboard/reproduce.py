"""One line and seed of a board once more, from nothing: does it lie where the results say it should?"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.board import Board, BoardError, Recipe
from ssl_zoo.leaderboard.composer import Composer, Trust
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.leaderboard.standings import format_point
from ssl_zoo.leaderboard.unit import LOCK, Unit, alone
from ssl_zoo.transfer.report import format_score, interval


def bounds(values: Sequence[float], again: bool) -> tuple[float, float]:
    """The ends of the 95 % interval in which a new figure is expected.

    Args:
        values: what was recorded, a figure for each seed.
        again: whether the new figure is of one of these seeds. Then the interval is that of the mean; of
            another seed, it is Student's prediction interval of one more draw.

    Raises:
        BoardError: fewer than two values.
    """
    stated = interval(values)
    if stated is None:
        raise BoardError("an interval needs the results of two seeds or more: run the board first")
    if again:
        return stated
    n, mean = len(values), sum(values) / len(values)
    half = (stated[1] - mean) * math.sqrt(n) * math.sqrt(1 + 1 / n)
    return mean - half, mean + half


class Figure(NamedTuple):
    """A reproduced figure.

    Attributes:
        setting: label budget and steps, for people.
        stated, new: the recorded figure with its interval, and the new one, for people.
        verdict: "same" as what was recorded of its seed to the last bit, "inside" the stated bounds,
            "OUTSIDE" them, or "new" where fewer than two seeds have it.
    """

    measure: str
    setting: str
    metric: str
    stated: str
    new: str
    verdict: str


def compared(record: Mapping[str, Any], before: Mapping[int, Mapping[str, Any]], seed: int) -> list[Figure]:
    """The figures of a new record beside those of `before` (seed -> record)."""
    figures: list[Figure] = []
    for name, found in record["measures"].items():
        for one in found["results"]:
            same = lambda other, one=one: all(other[k] == one[k] for k in ("metric", "labels", "steps"))  # noqa: E731
            known = {s: r["value"] for s in before for r in recorded(before[s], name) if same(r)}
            stated, verdict = judged(one["metric"], one["value"], known, seed)
            new = format_score(one["metric"], one["value"], None)
            setting = format_point(one["labels"], one["steps"])
            figures.append(Figure(name, setting, one["metric"], stated, new, verdict))
    return figures


def judged(metric: str, value: float, known: Mapping[int, float], seed: int) -> tuple[str, str]:
    """What is stated of a figure that is known of some seeds, and the verdict on a new value of a seed."""
    values = list(known.values())
    if len(values) < 2:
        return "-", "new"
    low, high = bounds(values, seed in known)
    stated = format_score(metric, sum(values) / len(values), (low, high))
    if value == known.get(seed):
        return stated, "same"
    return stated, "inside" if low - 1e-9 <= value <= high + 1e-9 else "OUTSIDE"


def recorded(record: Mapping[str, Any], measure: str) -> Sequence[Mapping[str, Any]]:
    """The results of a measure in a record; () where the measure was added to the board since."""
    return record["measures"].get(measure, {}).get("results", ())


class Reproduced(NamedTuple):
    """What a reproduction found.

    Attributes:
        figures: of all measures, in order.
        verdicts: those on the figures of the primary measure.
        recorded: whether the seed's own results are on the board.
    """

    figures: list[Figure]
    verdicts: set[str]
    recorded: bool


def only_measure(board: Board, recipe: Recipe, measure: str) -> Board:
    """The board with one of its measures, which becomes the primary one.

    Raises:
        BoardError: the line has no such measure.
    """
    applicable = board.measures_of(recipe)
    if measure not in applicable:
        raise BoardError(f"{board.name}/{recipe.name} has no measure {measure!r}: {', '.join(applicable)}")
    return replace(board, measures={measure: board.measures[measure]}, primary=measure)


def empty(where: Path) -> None:
    """Delete what is in the folder of a unit.

    Raises:
        Busy: another process works there.
    """
    with alone(where):
        for path in where.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def reproduce(
    composer: Composer,
    board: Board,
    recipe: Recipe,
    seed: int,
    runs: Path,
    trust: Trust,
    say: Callable[[str], None] = print,
) -> Reproduced:
    """Run a line and seed in a folder of `runs`, which is emptied first. Nothing is recorded.

    Raises:
        BoardError: fewer than two seeds of the line have results of the primary measure.
        Busy: another process works in that folder.
    """
    known = records.read(board.results)
    before = {s: record for (line, s), record in known.items() if line == recipe.name}
    seeds = sum(bool(recorded(record, board.primary)) for record in before.values())
    if seeds < 2:
        raise BoardError(
            f"{board.name}/{recipe.name} has {board.primary} results of {seeds} seeds; "
            "an interval needs 2 or more"
        )
    unit = Unit(composer, board, recipe, seed, runs, Datasets(composer), trust)
    empty(unit.where)
    figures = compared(unit.run(say), before, seed)
    verdicts = {figure.verdict for figure in figures if figure.measure == board.primary}
    return Reproduced(figures, verdicts, seed in before)
