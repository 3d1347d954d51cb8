"""An objective around a new backbone, from a configuration.

A backbone of text gets the vocabulary of the run's tokenizer. So does the text tower of an objective of
pairs, which is configured under the key `text` of the objective, or of a term of a Sum.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.compose.gate import ConfigError, instantiate
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Objective

TOWER = "text"


def build_objective(cfg: DictConfig, tokenizer: Tokenizer | None) -> Objective:
    """The objective of a pretraining run, with its new backbone.

    Raises:
        ConfigError: a text tower without a tokenizer.
    """
    make: Any = instantiate(cfg.backbone, _convert_="all", _partial_=True)
    around = instantiate(cfg.objective, _convert_="all")
    if text_tower(cfg.objective) is not None:
        if tokenizer is None:
            raise ConfigError("the objective has a text tower, and there is no tokenizer of its captions")
        backbone, around = make(), with_vocabulary(around, tokenizer.vocabulary)
    else:
        backbone = make() if tokenizer is None else make(vocabulary=tokenizer.vocabulary)
    return around(backbone)


def text_tower(objective: Any) -> DictConfig | None:
    """The configuration of the text backbone that an objective has besides; None if it has none."""
    if not isinstance(objective, DictConfig):
        return None
    tower = objective.get(TOWER)
    if isinstance(tower, DictConfig) and "_target_" in tower:
        return tower
    found = map(text_tower, objective.values())
    return next((one for one in found if one is not None), None)


def with_vocabulary(part: Any, vocabulary: Vocabulary) -> Any:
    """A partial objective whose text towers, partial too, are built."""
    if isinstance(part, dict):
        made = {key: with_vocabulary(one, vocabulary) for key, one in part.items()}
        tower = made.get(TOWER)
        return made | ({TOWER: tower(vocabulary=vocabulary)} if isinstance(tower, partial) else {})
    if isinstance(part, partial):
        return partial(part.func, *part.args, **with_vocabulary(part.keywords, vocabulary))
    return part
