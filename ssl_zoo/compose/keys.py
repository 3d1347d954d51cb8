"""Keys of a configuration: which a verb reads, which groups it chooses from, and what each node builds."""

from __future__ import annotations

import functools
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose.gate import config_folder


@functools.cache
def top_keys(verb: str) -> list[str]:
    """Keys that a verb reads, groups among them."""
    raw = OmegaConf.load(config_folder() / f"{verb}.yaml")
    found = [str(key) for key in raw if key not in ("defaults", "hydra")]
    for one in raw.defaults:
        if isinstance(one, str):
            found += [] if one == "_self_" else top_keys(one)
        else:
            found += [str(key) for key in one if not str(key).startswith("override ")]
    return found


@functools.cache
def groups_of(verb: str) -> dict[str, tuple[str, str]]:
    """Group -> its default and its meaning, as the defaults list of the verb has them."""
    found: dict[str, tuple[str, str]] = {}
    text = (config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    for line in re.search(r"^defaults:\n((?:  .*\n)+)", text, re.MULTILINE)[1].splitlines():  # pyright: ignore
        one = re.match(r"  - (\w+): (\S+)(?: +# (.*))?$", line)
        if one:
            found[one[1]] = (one[2], one[3] or "")
        elif (base := line.strip()[2:]) != "_self_" and base.isidentifier():
            found |= groups_of(base)
    return found


def node_targets(cfg: DictConfig, prefix: str = "") -> dict[str, str]:
    """Path of each node that builds something -> what."""
    found: dict[str, str] = {}
    for key, node in cfg.items_ex(resolve=False):
        if (
            isinstance(node, DictConfig)
            and not node._is_none()
            and not node._is_missing()
            and not node._is_interpolation()
        ):
            path = f"{prefix}{key}"
            target = node._content.get("_target_")  # pyright: ignore
            if target is not None:
                found[path] = str(target._value())
            found |= node_targets(node, f"{path}.")
    return found


def flatten(cfg: DictConfig, prefix: str = "") -> dict[str, Any]:
    """Leaf values by full key; interpolations and missing values as they stand."""
    found: dict[str, Any] = {}
    for key, value in cfg.items_ex(resolve=False):
        name = f"{prefix}{key}"
        if isinstance(value, DictConfig) and not value._is_none() and len(value):
            found |= flatten(value, f"{name}.")
        else:
            found[name] = value
    return found
