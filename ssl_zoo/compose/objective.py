"""An objective around a new backbone, from a configuration.

A backbone of text gets the vocabulary of the run's tokenizer. So does the text tower of an objective of
pairs, which is configured under the key `text` of the objective, or of a term of a Sum.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from omegaconf import DictConfig

from ssl_zoo.backbones._base import Backbone, Vocabulary
from ssl_zoo.compose.gate import ConfigError, instantiate
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.compose.signatures import signature
from ssl_zoo.compose.weights import drawn, exported_folder, start_from
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Objective

TOWER = "text"


def build_objective(
    cfg: DictConfig, tokenizer: Tokenizer | None, objects: Objects = NONE, begin: bool = False
) -> Objective:
    """The objective of a pretraining run, with its new backbone, or with those that code handed over.

    Args:
        cfg: the whole configuration of the run.
        tokenizer: of the run; None where it reads no text.
        objects: what code hands over in the place of groups.
        begin: whether this is the start of the run. Then weights of an earlier run are read into the backbone
            before the objective is built around it, since a teacher is a copy of it.

    Raises:
        ConfigError: text without a tokenizer, a backbone of another vocabulary, weights of another
            architecture, or what `made` raises.
        HubError: there are no weights where they should be.
    """
    around: Any = objects.objective or instantiate(cfg.objective, _convert_="all")
    paired = text_tower(cfg.objective) is not None
    if paired:
        if tokenizer is None:
            raise ConfigError("the objective has a text tower, and there is no tokenizer of its captions")
        around = with_vocabulary(around, tokenizer.vocabulary)
    if objects.backbone is not None:
        backbone = objects.backbone
        known = getattr(backbone, "vocabulary", None)
        if tokenizer is not None and not paired and known is not None and known != tokenizer.vocabulary:
            raise ConfigError(
                f"backbone: it was built for a vocabulary of {known.size} ids, and the tokenizer of this run "
                f"has {tokenizer.vocabulary.size}: take backbone=NAME, which gets that of the run"
            )
    else:
        taken = signature(str(cfg.backbone.get("_target_")))
        if tokenizer is None and taken is not None and "vocabulary" in taken.needed:
            raise ConfigError("the backbone reads text, and the run has no tokenizer")
        make: Any = instantiate(drawn(cfg), _convert_="all", _partial_=True)
        with weights_from_the_hub(cfg.backbone):
            backbone = make() if tokenizer is None or paired else make(vocabulary=tokenizer.vocabulary)
    if begin and objects.backbone is None and (folder := exported_folder(cfg)) is not None:
        start_from(backbone, folder, "backbone.pretrained")
    if begin and cfg.get("init") is not None:
        start_from(backbone, cfg.init, "init")
    return made(around, backbone)


@contextlib.contextmanager
def weights_from_the_hub(backbone: DictConfig) -> Iterator[None]:
    """Within, an error of the hub becomes a ConfigError that says whose weights were wanted."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not type(error).__module__.startswith("huggingface_hub"):
            raise
        name = backbone.get("name")
        raise ConfigError(
            f"backbone.pretrained: the weights of {name} are neither in the cache of the Hugging Face hub "
            "nor to be had from it now; without a network give backbone.pretrained=FILE, or HF_HOME=FOLDER "
            f"of a cache that has them ({type(error).__name__})"
        ) from error


def made(around: Any, backbone: Backbone) -> Objective:
    """The objective that `around` makes of the backbone.

    Raises:
        ConfigError: the objective has no such argument, or what was made is no objective.
    """
    try:
        objective = around(backbone)
    except TypeError as error:
        if strange := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
            raise ConfigError(f"objective.{strange[1]}: {error}") from error
        raise
    if not isinstance(objective, Objective):
        raise ConfigError(f"objective: it made {type(objective).__name__}, which is no ssl_zoo.Objective")
    return objective


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
