"""`ssl-zoo leaderboard check` and `reproduce`: do the recorded figures still stand?"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.board import Board, BoardError, Recipe
from ssl_zoo.leaderboard.cells import point_text
from ssl_zoo.leaderboard.datasets import AbsentDatasets, Datasets
from ssl_zoo.leaderboard.find import find, names, number, one_board, one_row, only, trusted
from ssl_zoo.leaderboard.unit import Unit
from ssl_zoo.transfer.report import interval, table, written

Records = Mapping[records.Key, dict[str, Any]]  # as `records.read` gives them


def changed(board: Board, recipe: Recipe, datasets: Datasets, known: Records) -> list[str]:
    """What a row's results depend on and is otherwise now, with the seeds if not all are affected."""
    results = {seed: one for (row, seed), one in known.items() if row == recipe.name}
    if not results:
        return []
    unit = Unit(board, recipe, board.seeds[0], Path("."), datasets, None)
    found: dict[str, list[int]] = {}
    for seed, record in results.items():
        for change in unit.changes(record):
            found.setdefault(change, []).append(seed)
    return [
        change + ("" if len(seeds) == len(results) else f" (seed {', '.join(map(str, seeds))})")
        for change, seeds in found.items()
    ]


def stale(board: Board, datasets: Datasets) -> dict[str, str]:
    """row -> what changed since its results were made, for rows where something did."""
    known = records.read(board.results)
    told = {
        name: "; ".join(changed(board, recipe, datasets, known)) for name, recipe in board.recipes.items()
    }
    return {name: why for name, why in told.items() if why}


def check(words: list[str], options: dict[str, str]) -> None:
    """Boards with faults fail; rows that are stale or missing are marked, and fail with strict=true."""
    only(options, "strict")
    strict = {"true": True, "false": False, None: False}.get(options.get("strict"))
    if strict is None:
        raise ConfigError(f"strict={options['strict']}: it takes true or false")
    faults, marked, datasets = [], 0, AbsentDatasets()
    rows: list[tuple[str, str]] = []
    for name in words or names():
        board = find(name)
        known = records.read(board.results)
        if orphans := sorted({row for row, _ in known} - set(board.recipes)):
            faults.append(f"{board.results} has rows without a recipe: {', '.join(orphans)}")
        for recipe in board.recipes.values():
            problems = changed(board, recipe, datasets, known)
            if seeds := [seed for seed in board.seeds if (recipe.name, seed) not in known]:
                problems = [f"no result of seed {', '.join(map(str, seeds))}", *problems]
            rows.append((f"{board.name}/{recipe.name}", "; ".join(problems) or "stands"))
            marked += bool(problems)
    print(table(("row", "standing"), rows))
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults or (strict and marked):
        sys.exit(f"{len(faults)} faults, {marked} of {len(rows)} rows do not stand")
    print(f"{len(rows) - marked} of {len(rows)} rows stand, {marked} are marked")


def bounds(values: Sequence[float], again: bool, level: float = 0.95) -> tuple[float, float]:
    """Where a new figure is expected: of a seed among the values (`again`) in the interval of the mean, of
    another seed in Student's prediction interval of one more draw.

    Raises:
        BoardError: fewer than two values.
    """
    stated = interval(values, level)
    if stated is None:
        raise BoardError("an interval needs the results of two seeds or more: run the board first")
    if again:
        return stated
    n, mean = len(values), sum(values) / len(values)
    half = (stated[1] - mean) * math.sqrt(n) * math.sqrt(1 + 1 / n)
    return mean - half, mean + half


class Figure(NamedTuple):
    """A reproduced figure. setting: label budget and steps in words. verdict: "same" as what was recorded of
    its seed to the last bit, "inside" the stated bounds, "OUTSIDE" them, or "new" where fewer than two seeds
    have it."""

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
            new = written(one["metric"], one["value"], None)
            setting = point_text(one["labels"], one["steps"])
            figures.append(Figure(name, setting, one["metric"], stated, new, verdict))
    return figures


def judged(metric: str, value: float, known: Mapping[int, float], seed: int) -> tuple[str, str]:
    """What is stated of a figure that is known of some seeds, and the verdict on a new value of a seed."""
    values = list(known.values())
    if len(values) < 2:
        return "-", "new"
    low, high = bounds(values, seed in known)
    stated = written(metric, sum(values) / len(values), (low, high))
    if value == known.get(seed):
        return stated, "same"
    return stated, "inside" if low - 1e-9 <= value <= high + 1e-9 else "OUTSIDE"


def recorded(record: Mapping[str, Any], measure: str) -> Sequence[Mapping[str, Any]]:
    """The results of a measure in a record; () of one that was added to the board since."""
    return record["measures"].get(measure, {}).get("results", ())


def reproduce(words: list[str], options: dict[str, str]) -> None:
    """One row and seed once more, from nothing; exit code 1 where the primary figure lies outside."""
    only(options, "seed", "runs", "measure", "trust")
    board_name, slash, row = one_board(words).rpartition("/")
    if not slash:
        raise BoardError(f"which row? Give BOARD/ROW, for example {row}/{next(iter(find(row).recipes))}")
    board = find(board_name)
    recipe = one_row(board, row)
    seed = number(options, "seed", 0)
    before = {s: record for (r, s), record in records.read(board.results).items() if r == row}
    if (measure := options.get("measure")) is not None:
        applicable = board.measures_of(recipe)
        if measure not in applicable:
            raise BoardError(f"{board.name}/{row} has no measure {measure!r}: {', '.join(applicable)}")
        board = replace(board, measures={measure: board.measures[measure]}, primary=measure)
    known = sum(bool(recorded(record, board.primary)) for record in before.values())
    if known < 2:
        raise BoardError(
            f"{board.name}/{row} has {board.primary} results of {known} seeds; an interval needs 2 or more"
        )
    runs = Path(options.get("runs", "runs/reproduce"))
    unit = Unit(board, recipe, seed, runs, Datasets(), trusted(options))
    shutil.rmtree(unit.where, ignore_errors=True)
    record = unit.run(lambda line: print(f"  {line}", flush=True))
    figures = compared(record, before, seed)
    kind = "95 % interval of the mean" if seed in before else "95 % interval of one more seed"
    print(table(("measure", "at", "metric", f"stated, {kind}", f"new, seed {seed}", ""), figures))
    verdicts = {figure.verdict for figure in figures if figure.measure == board.primary}
    if "OUTSIDE" in verdicts:
        sys.exit(f"{board.name}/{row}: the new {board.primary} lies outside the stated interval")
    if verdicts == {"same"}:
        print(f"{board.name}/{row}: the new {board.primary} is the recorded one of seed {seed}")
    else:
        print(f"{board.name}/{row}: the new {board.primary} lies inside the stated interval")
    if seed in before:
        equal = sum(figure.verdict == "same" for figure in figures)
        print(f"{equal} of {len(figures)} figures are the recorded ones of seed {seed} to the last bit")
