"""The rungs of `ssl-zoo scale`: sizes crossed with budgets and seeds, each a configuration of pretraining.

A rung is a run of its own with its schedule to the end: a run cut short has not had its learning rate decay,
and its loss lies above what its compute could have bought (Hoffmann et al. 2022, section 3.1).
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ssl_zoo.compose.composition import ConfigError, flatten, near, same_type
from ssl_zoo.compose.schema import kind

OWN = ("widths", "ladder", "steps", "seeds", "resamples")  # keys of scale.yaml that pretraining lacks
# A loss compares only with losses on the same text and images, by the same objective.
FIXED = ("data", "tokenizer", "objective._target_", "budget", "run", "seed", "validation_limit", *OWN)


@dataclass(frozen=True)
class Rung:
    """One run of the ladder.

    Attributes:
        size: the name of its size, "width64-depth2".
        words: full key -> value, of what makes the size.
        steps, seed: of the run.
    """

    size: str
    words: dict[str, Any]
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"{self.size}-steps{self.steps}-s{self.seed}"


def rungs(cfg: DictConfig) -> list[Rung]:
    """Every rung, budgets within sizes.

    Raises:
        ConfigError: no size or budget, lists of unequal length, a key that is not there or must not vary.
    """
    steps = whole_numbers(cfg, "steps", least=1)
    seeds = whole_numbers(cfg, "seeds", least=0)
    if cfg.trainer.devices != 1 or cfg.trainer.num_nodes != 1:
        raise ConfigError("scale trains its rungs one after the other in one process: take trainer.devices=1")
    sized = [(size_name(words), words) for words in sizes(cfg)]
    found = [
        Rung(size, words, count, seed) for size, words in sized for count in sorted(steps) for seed in seeds
    ]
    names = [rung.name for rung in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"the ladder holds {twice[0]} twice: give each size, budget and seed once")
    return found


def whole_numbers(cfg: DictConfig, key: str, least: int) -> list[int]:
    """cfg[key], one or several, as a list of integers from `least` on.

    Raises:
        ConfigError: the list is empty, or holds something else.
    """
    given = cfg[key]
    values = list(given) if OmegaConf.is_list(given) else [given]
    if not values or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in values):
        raise ConfigError(f"{key}={given} must be whole numbers from {least} on, such as {key}=[200,400,800]")
    return values


def sizes(cfg: DictConfig) -> list[dict[str, Any]]:
    """Full key -> value for each size: size i has the i-th value of every list of the ladder.

    Raises:
        ConfigError: see `rungs`.
    """
    there = flatten(cfg)
    lists: dict[str, list[Any]] = {}
    ladder = copy.deepcopy(cfg).ladder
    OmegaConf.resolve(ladder)
    for key, values in flatten(ladder).items():
        if values is None:  # widths, where the ladder has other keys
            continue
        if not OmegaConf.is_list(values) or not len(values):
            raise ConfigError(f"ladder.{key}={values} must be a list with a value for each size")
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED):
            raise ConfigError(f"ladder.{key}: losses do not compare between rungs of different {key}")
        if key not in there:
            hint = near(key, list(there)) or f"; +{key}=... would add it"
            raise ConfigError(f"ladder.{key}: there is no key {key!r}{hint}")
        if wrong := [value for value in values if not same_type(there[key], value)]:
            raise ConfigError(f"ladder.{key}: {wrong[0]!r} is {kind(wrong[0])}; it takes {kind(there[key])}")
        lists[key] = list(values)
    if not lists:
        raise ConfigError(
            "the ladder has no sizes: give widths=[64,96,128], or the key that makes the backbone larger, "
            "such as +ladder.backbone.embed_dim=[64,96,128] or +ladder.backbone.depth=[2,4,6]"
        )
    if len({len(values) for values in lists.values()}) > 1:
        counts = ", ".join(f"{key} {len(values)}" for key, values in lists.items())
        raise ConfigError(f"the lists of the ladder differ in length ({counts}): the i-th values make size i")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def size_name(words: dict[str, Any]) -> str:
    """The name of a size, such as "width64-depth2", which a folder can have."""
    last = [key.rsplit(".", 1)[-1] for key in words]
    shown = last if len(set(last)) == len(last) else list(words)
    return "-".join(
        re.sub(r"[^\w.]+", "_", f"{key}{value}") for key, value in zip(shown, words.values(), strict=True)
    )


def pretraining(cfg: DictConfig, rung: Rung, folder: Path) -> DictConfig:
    """The configuration of `ssl-zoo pretrain` for a rung that lives in `folder`."""
    made = copy.deepcopy(cfg)
    with open_dict(made):
        for key in OWN:
            made.pop(key)
        made.budget = {"steps": rung.steps}
        made.seed, made.run = rung.seed, str(folder)
    for key, value in rung.words.items():
        OmegaConf.update(made, key, value)
    return made
