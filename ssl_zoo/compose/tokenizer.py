"""Which tokenizer a new run gets: that of the configuration, but for pretrained weights their own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose.composition import ConfigError, plain
from ssl_zoo.compose.gate import config_folder, instantiate
from ssl_zoo.compose.keys import groups_of
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_streams import Texts
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.data.tokenizer_pretrained import pretrained
from ssl_zoo.pretrain.saying import say

LEARNED = "ssl_zoo.data.tokenizer.bpe"  # takes as long as it is worth keeping; others are made in a moment


def new_tokenizer(cfg: DictConfig, texts: Texts | Iterable[str], reader: DictConfig) -> Tokenizer:
    """A tokenizer of the training texts, for the backbone that `reader` configures.

    To pretrained weights an id of another tokenizer means another word. So they bring their own, unless
    backbone.pretrained=weights takes them alone; those of an earlier run (init=RUN) bring that run's.

    Args:
        cfg: the whole configuration of the run.
        texts: the training texts, or the data that hold them.
        reader: the configuration of the backbone that reads the ids.

    Raises:
        ConfigError: another tokenizer was chosen for pretrained weights, or they lie without theirs.
    """
    name, asked = reader.get("name"), plain(cfg.tokenizer)
    if cfg.get("init") is not None and reader is cfg.backbone:
        return of_run(Path(cfg.init), asked)
    if reader.get("pretrained") is not True or asked.get("name") == name:
        learn = instantiate(cfg.tokenizer, _convert_="all")
        if not isinstance(texts, Texts):
            return learn(texts)
        if asked.get("_target_") != LEARNED:
            return learn(texts.texts("train"))
        return texts.tokenizer(learn, json.dumps(asked, sort_keys=True))
    instead = "for another one, whose ids mean other words to them, say backbone.pretrained=weights"
    if asked != default():
        raise ConfigError(
            f"the weights of {name} were trained with {name}'s own tokenizer: leave out tokenizer=... and "
            f"its keys to have it; {instead}"
        )
    try:
        own = pretrained(name=name)
    except DataError as error:
        raise ConfigError(f"the weights of {name} need {name}'s own tokenizer: {error}; {instead}") from error
    say(f"tokenizer   {name}'s own tokenizer, with which its weights were trained")
    return own


def of_run(run: Path, asked: dict[str, Any]) -> Tokenizer:
    """The tokenizer of an earlier run, for its backbone.

    Raises:
        ConfigError: there is none, or another one was chosen.
    """
    if asked != default():
        raise ConfigError(
            f"the weights of {run} were trained with that run's own tokenizer: leave out tokenizer=... and "
            "its keys to have it"
        )
    if not (run / "tokenizer").exists():
        raise ConfigError(
            f"init={run} holds no tokenizer, and ids without it mean nothing: name the run's folder"
        )
    say(f"tokenizer   that of {run}, with which its backbone was trained")
    return Tokenizer.load(run / "tokenizer")


def default() -> dict[str, Any]:
    """The tokenizer that a run has if nothing is said."""
    choice, _ = groups_of("pretrain")["tokenizer"]
    found = OmegaConf.load(config_folder() / "tokenizer" / f"{choice}.yaml")
    assert isinstance(found, DictConfig)
    return plain(found)
