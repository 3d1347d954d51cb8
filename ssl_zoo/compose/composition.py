"""From the words of a command line to a checked configuration, with errors that name the near match.

Composition and checks need no torch, so a typo stops at once. What is composed is built elsewhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ssl_zoo.compose import overrides, own_data
from ssl_zoo.compose.gate import (
    ConfigError,
    Loader,
    config_folder,
    hydra_words,
    is_hydra,
    of_hydra,
    refuse_unknown_targets,
)
from ssl_zoo.compose.keys import flatten, groups_of, node_targets
from ssl_zoo.compose.places import SHIPPED, Place, groups, known, options
from ssl_zoo.compose.refusals import FREE_TO_GO, refuse_deletion, refuse_unread, refuse_values, same_type
from ssl_zoo.compose.shorthand import with_custom_objective, with_positions, with_public_backbone
from ssl_zoo.compose.signatures import signature
from ssl_zoo.compose.unknown import near, unknown, unread

__all__ = ["ConfigError", "config_folder", "flatten", "near", "refuse_unknown_targets", "same_type"]


# What code hands over as an object instead of choosing it by name: group -> its description, for config.yaml.
Given = Mapping[str, dict[str, Any]]
NOTHING: Given = {}
HANDED = "handed_over"
# What a run is made of: code may hand it over, and `ssl-zoo list` shows all choices.
PARTS = ("objective", "backbone", "data")
for _group in PARTS:
    ConfigStore.instance().store(group=_group, name=HANDED, node={})


# Errors that explain themselves; anything else is a bug and keeps its traceback.
EXPECTED = (ValueError, RuntimeError, OSError, ImportError, HydraException, OmegaConfBaseException)


@contextlib.contextmanager
def as_config_errors() -> Iterator[None]:
    """Within, errors of Hydra and OmegaConf become ConfigErrors; one that Hydra wrapped is raised itself."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        inner = error.__cause__
        if isinstance(error, HydraException) and isinstance(inner, (ValueError, RuntimeError, OSError)):
            raise inner from None
        raise ConfigError(explain(error)) from error


def explain(error: BaseException) -> str:
    """The message of an error, and of the one that Hydra wrapped around it."""
    inner = error.__cause__
    where = re.search(r"full_key: (\S+)", str(error))
    found = f" (in {where.group(1)})" if where else ""
    if isinstance(error, HydraException) and inner is not None:
        return f"{inner}{found}"
    if isinstance(error, OmegaConfBaseException):
        return f"{str(error).splitlines()[0]}{found}"
    return str(error)


class Composed(NamedTuple):
    """A configuration, and the choice of each group that it is made of."""

    cfg: DictConfig
    choices: dict[str, str]


def build(verb: str, words: list[str], place: Place = SHIPPED) -> DictConfig:
    """Hydra's composition, outside an application."""
    return compose(verb, words, place).cfg


def compose(verb: str, words: list[str], place: Place = SHIPPED, given: Given = NOTHING) -> Composed:
    """Hydra's composition with its choices, without Hydra's global state: any thread may call this."""
    path = create_config_search_path(str(place.folders()[-1]))
    if place.folder is not None and not place.alone:
        path.prepend("command-line", f"file://{place.folder}", SearchPathQuery(provider="schema"))
    loader = Loader(hydra_words(words), path)
    handed = [f"{group}={HANDED}" for group in given]
    cfg = loader.load_configuration(place.name or verb, [*words, *handed], RunMode.RUN, from_shell=False)
    choices = {str(group): str(choice) for group, choice in cfg.hydra.runtime.choices.items()}
    with open_dict(cfg):
        del cfg["hydra"]
        for group, described in given.items():
            cfg[group] = described
    return Composed(cfg, choices)


def composed(verb: str, words: list[str], place: Place, given: Given = NOTHING) -> DictConfig:
    """`compose`, whose errors are ConfigErrors."""
    with explained():
        return compose(verb, words, place, given).cfg


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Within, errors of a composition become ConfigErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error)) from error


def valued(cfg: DictConfig, words: list[str]) -> DictConfig | None:
    """The configuration with the values that words give, as Hydra's composition ends with them: in a quarter
    of the time of another one. None where a word is Hydra's own or a sweep, which is for all of Hydra."""
    with explained():
        values = OverridesParser.create().parse_overrides(words)
        if any(is_hydra(one) or one.is_sweep_override() for one in values):
            return None
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)  # pyright: ignore
    return cfg


def settle(
    verb: str, given: list[str], place: Place = SHIPPED, sweeps: bool = False, objects: Given = NOTHING
) -> list[str]:
    """The words that Hydra is handed: quoted, and with what they leave to be guessed.

    Args:
        given: the words as they were typed, without Hydra's flags.
        place: where configurations lie.
        sweeps: whether a comma makes several runs (-m), each of which is checked.
        objects: what code hands over in the place of groups.

    Raises:
        ConfigError: see `check`.
    """
    overrides.refuse_unreadable(given)
    made = with_public_backbone(with_custom_objective(given))
    made = with_positions(verb, made)
    for word in made:
        prefix, _, value = overrides.split(word)
        if value is None and prefix != "~":
            chosen = [f"{group}={word}" for group in groups_of(verb) if word in options(group, place)]
            hint = f"; did you mean {' or '.join(chosen)}?" if chosen else ""
            raise ConfigError(f"{word!r} is not KEY=VALUE{hint}")
    made = own_data.chosen(verb, made, options("data", place)) if "data" in groups(place) else made
    made = [overrides.quoted(word, sweeps) for word in made]
    added = {}
    for one in overrides.spread(made) if sweeps else [made]:
        added |= checked(verb, one, place, objects)
    return [handed(word, added) for word in made]


def handed(word: str, added: Collection[str]) -> str:
    """A word as Hydra takes it. added: keys that no YAML file spells out."""
    prefix, key, _ = overrides.split(word)
    return f"+{word}" if key in added and not prefix else overrides.opened(word)


def check(verb: str, given: list[str], place: Place = SHIPPED) -> None:
    """Raise ConfigError, with the full key and what would work, for what cannot be composed.

    Also refuses a value of another type than the default it replaces, numbers out of range, and keys that
    nothing reads, wherever they are written.
    """
    settle(verb, given, place)


def checked(verb: str, made: list[str], place: Place, objects: Given = NOTHING) -> dict[str, str]:
    """Check words as `check` does.

    Returns:
        Key -> word, for the keys that are arguments of what is built and that no YAML file spells out.
    """
    every = groups(place)
    choosing = [word for word in made if overrides.split(word).key.split("@")[0] in every]
    for word in choosing:
        prefix, group, value = overrides.split(word)
        group = group.split("@")[0]
        if not place.name and not place.alone and not prefix and (told := unread(verb, group)):
            raise ConfigError(f"{word}: {told}")
        if prefix == "~":
            refuse_deletion(verb, word, {})
        for choice in [] if value in (None, "null") else overrides.items(value):
            if choice not in options(group, place):
                there = [path.name for path in Path().iterdir()] if group == "data" else []
                hint = meant(group, choice) or near(choice, [*options(group, place), *there])
                what = "is no file or folder here, and no data set" if group == "data" else "does not exist"
                more = "`ssl-zoo list` has all" if hint and group in PARTS else known(group, place)
                raise ConfigError(f"{group}={choice} {what}{hint or '.'} {more}")
    missing = [
        g
        for g in mandatory(verb)
        if g not in objects and not any(w.startswith(f"{g}=") and w != f"{g}=null" for w in choosing)
    ]
    if place.name or place.alone or any(word.startswith("experiment=") for word in choosing):
        missing = []  # a recipe may choose them
    picked = [word for word in choosing if overrides.split(word).key not in missing]
    base = composed(verb, [*picked, *(f"~{group}" for group in missing)], place, objects)
    keys = flatten(base)
    targets = node_targets(base) | {
        key.removesuffix("._target_"): overrides.unquoted(value or "")
        for _, key, value in map(overrides.split, made)
        if key.endswith("._target_")
    }
    targets |= {
        overrides.split(word).key: str(inner["_target_"])
        for word in made
        if "_target_" in (inner := overrides.inner(word))
    }
    added: dict[str, str] = {}
    for word in made:
        prefix, key, _ = overrides.split(word)
        if word in choosing or of_hydra(key) or prefix == "+" or prefix == "++":
            continue
        there = key in keys or any(other.startswith(f"{key}.") for other in keys)
        if prefix == "~":
            if not there and key not in FREE_TO_GO:
                raise ConfigError(f"{word}: {unknown(verb, word, keys, targets, every)}")
            refuse_deletion(verb, word, targets)
        elif not there:
            parent, _, name = key.rpartition(".")
            taken = signature(targets[parent]) if parent in targets else None
            if taken is None or name not in taken.names:
                told = unknown(verb, word, keys, targets, every)
                if missing and "did you mean" not in told:
                    break
                raise ConfigError(told)
            added[key] = word
    if missing:
        own = " A path of your own, or a name." if missing[0] == "data" else ""
        raise ConfigError(f"{missing[0]}=... is missing.{own} {known(missing[0], place)}")
    made = [handed(word, added) for word in made]
    full = None if objects else valued(base, [word for word in made if word not in choosing])
    if full is None:
        full = composed(verb, made, place, objects)
    refuse_values(verb, keys, full)
    refuse_unread(verb, full)
    return added


def mandatory(verb: str) -> list[str]:
    """The groups of which a verb must be given a choice."""
    if verb in ("predict", "generate", "report", "export", "reproduce"):
        return []
    some = verb in ("evaluate", "finetune", "embed", "look", "worth")
    return ["data"] if some else [*PARTS]


def meant(group: str, word: str) -> str:
    """A question whether an objective was meant whose description has the word in it; "" for none."""
    from ssl_zoo.compose.catalogue import described  # which reads configurations with this module

    found = described(word)[:3] if group == "objective" else []
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain dicts and lists, resolved."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # pyright: ignore
