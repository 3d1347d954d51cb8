"""Do the recorded figures of a board still stand? What each depends on is compared with what is there now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.leaderboard import records, verdict
from ssl_zoo.leaderboard.board import Board, Recipe
from ssl_zoo.leaderboard.composer import Composer
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.leaderboard.unit import Unit
from ssl_zoo.pretrain import environment

Records = Mapping[records.Key, dict[str, Any]]  # as `records.read` gives them


class Checked(NamedTuple):
    """What was found of a board.

    Attributes:
        stale: line -> what changed since its results were made.
        missing: line -> the seeds of the board without results.
        faults: what is wrong with the files of the board, a sentence each.
        kept: whether the verdict was written.
    """

    stale: dict[str, str]
    missing: dict[str, list[int]]
    faults: list[str]
    kept: bool

    def problems(self, line: str) -> str:
        """All that keeps a line from standing; "" for one that stands."""
        seeds = self.missing.get(line)
        lacking = f"no result of seed {', '.join(map(str, seeds))}" if seeds else ""
        return "; ".join(filter(None, (lacking, self.stale.get(line))))


def changed(
    composer: Composer, board: Board, recipe: Recipe, datasets: Datasets, known: Records
) -> list[str]:
    """What the results of a line depend on and has changed, with the seeds where not all are affected."""
    results = {seed: one for (line, seed), one in known.items() if line == recipe.name}
    if not results:
        return []
    unit = Unit(composer, board, recipe, board.seeds[0], Path("."), datasets, None)
    found: dict[str, list[int]] = {}
    for seed, record in results.items():
        for change in unit.changes(record):
            found.setdefault(change, []).append(seed)
    return [
        change + ("" if len(seeds) == len(results) else f" (seed {', '.join(map(str, seeds))})")
        for change, seeds in found.items()
    ]


def check(composer: Composer, board: Board, datasets: Datasets) -> Checked:
    """Check all lines of a board, and write the verdict beside its results.

    datasets: may be shared between boards, so that each data set is read once.

    Raises:
        BoardError: a damaged record, or a recipe that changes what the board fixes.
    """
    known = records.read(board.results)
    faults = []
    if orphans := sorted({line for line, _ in known} - set(board.recipes)):
        faults.append(f"{board.results} has results without a recipe: {', '.join(orphans)}")
    told = {
        name: "; ".join(changed(composer, board, recipe, datasets, known))
        for name, recipe in board.recipes.items()
    }
    stale = {name: why for name, why in told.items() if why}
    missing = {
        name: seeds
        for name in board.recipes
        if (seeds := [seed for seed in board.seeds if (name, seed) not in known])
    }
    kept = verdict.write(board, stale, environment.commit(Path(environment.__file__)))
    return Checked(stale, missing, faults, kept)
