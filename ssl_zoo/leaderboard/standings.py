"""Standings of a board: its recipes and what is recorded of them, ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from ssl_zoo.leaderboard import board as folders
from ssl_zoo.leaderboard import records
from ssl_zoo.leaderboard.cells import Cell
from ssl_zoo.leaderboard.ranking import Record, Reference, Row, Standings, arrange


def load(folder: str | Path) -> Standings:
    """The standings of the board in a folder.

    Raises:
        BoardError: no board there, one with faults, or a damaged line of results.
        ValueError: a metric that nobody said how to show.
    """
    return standings(folders.load(Path(folder)))


def standings(board: folders.Board) -> Standings:
    """The standings of a board, from its results.jsonl as it is now."""
    found: dict[str, dict[int, Record]] = {name: {} for name in board.recipes}
    for (row, seed), record in sorted(records.read(board.results).items()):
        if row not in found:
            raise folders.BoardError(
                f"{board.results} has results of {row!r}, which is no recipe of {board.folder / 'recipes'}"
            )
        found[row][seed] = record
    rows = [_row(board, recipe, found[name]) for name, recipe in board.recipes.items()]
    return Standings(
        name=board.name,
        title=board.title,
        about=board.about,
        hardware=board.hardware,
        primary=board.primary,
        seeds=board.seeds,
        measures=board.measures,
        rows=arrange(rows, board.primary),
        references=tuple(_reference(board, one) for one in board.references),
    )


def _reference(board: folders.Board, said: Mapping[str, Any]) -> Reference:
    try:
        return Reference(**said)
    except TypeError:
        raise folders.BoardError(
            f"{board.folder / 'references.yaml'}: {said.get('name', said)} "
            "must have name, source, scores, protocol"
        ) from None


def _row(board: folders.Board, recipe: folders.Recipe, found: dict[int, Record]) -> Row:
    every = {**board.fixed, **recipe.pretrain}
    network = recipe.floor not in ("pixels", "tfidf")  # these two look at no backbone
    shape = (key for key in every if key.split(".")[0] == "backbone" and not key.endswith(".dropout"))
    trunk = sorted((key, str(every[key])) for key in shape)
    return Row(
        recipe=recipe,
        backbone=str(every.get("backbone", "")) if network else "",
        trunk=tuple(trunk) if network else (),
        cells={name: cells for name in board.measures if (cells := _cells(found, name))},
        records=found,
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
        raise ValueError(f"seeds of one row have other metrics ({', '.join(sorted(names))}): run them again")
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
