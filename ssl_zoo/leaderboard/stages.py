"""What a row is made with: the composed configurations of both stages, and the code behind them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose import composition, gate, pretraining
from ssl_zoo.leaderboard import code
from ssl_zoo.leaderboard.board import Board, Recipe


def first_words(board: Board, recipe: Recipe, seed: int) -> list[str]:
    """What `ssl-zoo pretrain` is given; for a floor, any objective that composes stands in."""
    words = composition.with_custom_objective([*board.pretrain_words(recipe), f"seed={seed}"])
    if recipe.floor is not None:
        words += ["objective=supervised", "budget.steps=1"]
        if not any(word.startswith("backbone=") for word in words):
            words.append("backbone=resnet_micro")
    return gate.refuse_hydra_words(words)


def second_words(board: Board, measure: str) -> list[str]:
    """What `ssl-zoo evaluate` is given."""
    return gate.refuse_hydra_words([*board.evaluate_words(measure), "run=.", "device=auto"])


def check(board: Board, recipes: Iterable[Recipe], trust: frozenset[str]) -> None:
    """Raise ConfigError for a word of the board or of a row that means nothing: before hours are spent."""
    for measure in board.measures:
        composition.check("evaluate", second_words(board, measure))
    for recipe in recipes:
        composition.check("pretrain", first_words(board, recipe, 0))
        stage_one(board, recipe, 0, trust)


def stage_one(board: Board, recipe: Recipe, seed: int, trust: frozenset[str] | None) -> DictConfig:
    """The composed configuration of `ssl-zoo pretrain`; each call gives a copy.

    trust: full names of classes outside this library that the recipe may build; None where no objective is
        built, and only its code is read.
    """
    return composed("pretrain", tuple(first_words(board, recipe, seed)), trust).copy()


def stage_two(board: Board, measure: str) -> DictConfig:
    """The composed configuration of `ssl-zoo evaluate`; each call gives a copy."""
    return composed("evaluate", tuple(second_words(board, measure)), frozenset()).copy()


@functools.cache
def composed(verb: str, words: tuple[str, ...], trust: frozenset[str] | None) -> DictConfig:
    cfg = composition.build(verb, list(words))
    gate.refuse_unknown_targets(cfg, built(cfg.objective) if trust is None else trust)
    return cfg


def built(tree: Any) -> list[str]:
    """Every `_target_` of a configuration."""
    return [value for _, value in gate.targets(OmegaConf.to_container(tree))]


def code_of(cfg: DictConfig, recipe: Recipe) -> dict[str, str]:
    """Hashes of the code behind pretraining, by part."""
    if recipe.floor in ("pixels", "tfidf"):
        return {"floor": code.floor(recipe.floor)}
    objective = [] if recipe.floor else built(cfg.objective)
    update = built(cfg.optimizer) + built(cfg.schedule)
    return code.pretraining(objective, built(cfg.backbone), update, built(cfg.data), built(cfg.tokenizer))


def settled(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration without what may differ between sessions and machines."""
    whole = composition.plain(cfg)
    kept = {key: value for key, value in whole.items() if key not in (*pretraining.FREE, "seed")}
    folder = re.escape(str(whole["data_dir"]))
    plain = re.sub(f'"{folder}/', '"DATA/', json.dumps(kept | {"budget": whole["budget"]}))
    return json.loads(plain)
