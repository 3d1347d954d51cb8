"""`ssl-zoo leaderboard add`: a recipe of one's own becomes a row of a board."""

from __future__ import annotations

from dataclasses import replace

import yaml
from omegaconf import OmegaConf

from ssl_zoo.compose.gate import instantiate, naming, parts
from ssl_zoo.leaderboard.board import Board, BoardError, Recipe
from ssl_zoo.leaderboard.find import find, one_board, writable
from ssl_zoo.leaderboard.stages import check, stage_one
from ssl_zoo.pretrain.checkpoint import write_atomically

ABOUT = {"title": "", "paper": "not given", "cost": "not given"}
TEXT = """\
# {title}.
# Paper: {paper}
# Cost: {cost}
# Expected: not run yet
# Command: ssl-zoo leaderboard run {board} {row}{trust}
{body}"""


def add(words: list[str], options: dict[str, str]) -> None:
    """Write BOARD/recipes/ROW.yaml, once all of it composes.

    Raises:
        BoardError, ConfigError: the row exists, or the words do not compose.
    """
    board = writable(find(one_board(words)))
    if len(words) != 2 or not words[1].replace("-", "").replace("_", "").isalnum():
        raise BoardError("give a board and the row's name, of letters, digits, - and _, then KEY=VALUE words")
    row = words[1]
    file = board.folder / "recipes" / f"{row}.yaml"
    if file.exists():
        raise BoardError(f"{file} exists already; choose another name, or edit it")
    about = {key: options.pop(key, default) for key, default in ABOUT.items()}
    if not options:
        raise BoardError("the row pretrains nothing: give at least objective=... or objective._target_=...")
    settings = {key: yaml.safe_load(value) for key, value in options.items()}
    recipe = Recipe(row, about["title"] or row, "", "", "", "", settings, None, ())
    own = composes(board, recipe)
    trust = f" trust={','.join(sorted(own))}" if own else ""
    body = yaml.safe_dump({"pretrain": settings}, sort_keys=False)
    text = TEXT.format(
        **about | {"title": recipe.title.rstrip(".")}, board=board.name, row=row, trust=trust, body=body
    )
    write_atomically(file, text.encode())
    print(f"written to {file}; next: ssl-zoo leaderboard run {board.name} {row}{trust}")


def composes(board: Board, recipe: Recipe) -> frozenset[str]:
    """Classes outside this library that the recipe names; all of it is composed, and the objective found."""
    own = frozenset(str(value) for key, value in recipe.pretrain.items() if key.endswith("_target_"))
    check(replace(board, measures={}), [recipe], own)
    cfg = stage_one(board, recipe, 0, own)
    with naming(own):
        instantiate(OmegaConf.create({"_partial_": True, **OmegaConf.to_container(cfg.objective)}))  # pyright: ignore
    return own - parts()
