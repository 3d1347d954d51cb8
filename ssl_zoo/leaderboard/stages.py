"""What a line is made with: its overrides, whether they compose, and the code behind its pretraining."""

from __future__ import annotations

from collections.abc import Iterable

from ssl_zoo.leaderboard import code
from ssl_zoo.leaderboard.board import BAGS, NO_BACKBONE, Board, BoardError, Recipe
from ssl_zoo.leaderboard.composer import Composer, Config, Trust
from ssl_zoo.transfer.measures import Measure

BAG = "ssl_zoo.backbones.bag.TokenBag"


def first_overrides(board: Board, recipe: Recipe, seed: int) -> list[str]:
    """The overrides of `ssl-zoo pretrain` for a line and seed. A floor does not pretrain: any objective (and
    backbone, where it names none) stands in, so that its configuration composes."""
    found = [*board.pretrain_overrides(recipe), f"seed={seed}"]
    if recipe.floor is not None:
        found += ["objective=supervised", "budget.steps=1"]
        if not any(one.startswith("backbone=") for one in found):
            found.append("backbone=bag" if recipe.floor == "tfidf" else "backbone=resnet_micro")
    return found


def check(composer: Composer, board: Board, recipes: Iterable[Recipe], trust: Trust) -> None:
    """Raise an error for an override of the board or of a line that means nothing, before hours are spent."""
    for measure in board.measures:
        composer.check("evaluate", board.evaluate_overrides(measure))
        config = composer.evaluation(board.evaluate_overrides(measure))
        if config.score == "validation" and isinstance(composer.build(config.protocol), Measure):
            raise BoardError(
                f"measure {measure} has score=validation, which is for protocols that predict classes: "
                "leave it out there"
            )
    for recipe in recipes:
        composer.check("pretrain", first_overrides(board, recipe, 0))
        config = composer.pretraining(first_overrides(board, recipe, 0), trust)
        if recipe.floor in BAGS and composer.targets(config.backbone) != [BAG]:
            raise BoardError(
                f"{board.name}/{recipe.name}: {recipe.floor} makes the vectors of a bag of tokens, so its "
                "recipe says backbone: bag under pretrain"
            )


def code_of(composer: Composer, config: Config, recipe: Recipe) -> dict[str, str]:
    """Hashes of the code behind the pretraining of a line, or behind its floor, by part (see `code`)."""
    if recipe.floor in NO_BACKBONE:
        return {"floor": code.floor(recipe.floor)}
    built = composer.targets
    return code.pretraining(
        built(config.objective),
        built(config.backbone),
        [name for part in (config.optimizer, config.schedule, config.decay) for name in built(part)],
        built(config.data),
        built(config.tokenizer),
        floor=recipe.floor or "",
    )
