"""A recipe of one's own becomes a line of a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ssl_zoo.leaderboard.board import Board, BoardError, Recipe, overrides
from ssl_zoo.leaderboard.composer import Composer
from ssl_zoo.leaderboard.stages import check, first_overrides
from ssl_zoo.pretrain.writing import write_atomically

TEXT = """\
# {title}.
# Paper: {paper}
# Cost: {cost}
# Expected: not run yet
# Command: {command}
{body}"""


def add(
    composer: Composer, board: Board, line: str, about: Mapping[str, str], settings: Mapping[str, Any]
) -> tuple[Path, str]:
    """Write BOARD/recipes/LINE.yaml, once all of it composes and the objective is found.

    Args:
        line: the name of the new line: letters, digits, - and _.
        about: title, paper and cost, where known. Line breaks become spaces.
        settings: overrides of `ssl-zoo pretrain`, by key.

    Returns:
        The file, and the command that runs the line.

    Raises:
        BoardError: the line exists, its name has other signs, it pretrains nothing, or it changes what the
            board fixes. Overrides that mean nothing raise the errors of the composer.
    """
    if not line.replace("-", "").replace("_", "").isalnum():
        raise BoardError(f"the name of a line has letters, digits, - and _, not {line!r}")
    file = board.folder / "recipes" / f"{line}.yaml"
    about = {key: " ".join(text.split()) for key, text in about.items() if text.strip()}  # of one line each
    if file.exists():
        raise BoardError(f"{file} exists already; choose another name, or edit it")
    if not settings:
        raise BoardError("the line pretrains nothing: give at least objective=... or objective._target_=...")
    recipe = Recipe(line, about.get("title", line).rstrip(".") or line, "", "", "", "", settings, None, ())
    own = composer.foreign(overrides(settings))
    check(composer, replace(board, measures={}), [recipe], own)
    composer.find_objective(composer.pretraining(first_overrides(board, recipe, 0), own), own)
    trust = f" trust={','.join(sorted(own))}" if own else ""
    command = f"ssl-zoo leaderboard run {board.name} {line}{trust}"
    text = TEXT.format(
        title=recipe.title,
        paper=about.get("paper", "not given"),
        cost=about.get("cost", "not given"),
        command=command,
        body=yaml.safe_dump({"pretrain": dict(settings)}, sort_keys=False),
    )
    write_atomically(file, text.encode())
    return file, command
