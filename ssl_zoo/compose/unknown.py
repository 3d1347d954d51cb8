"""What a key that there is not may have meant: the answer to a slip, a habit, or a key of another part."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import config_folder
from ssl_zoo.compose.habits import keys_here
from ssl_zoo.compose.keys import flatten, groups_of
from ssl_zoo.compose.places import options
from ssl_zoo.compose.renamed import new_argument
from ssl_zoo.compose.schema import VERBS
from ssl_zoo.compose.signatures import signature


def unknown(verb: str, word: str, keys: dict[str, Any], targets: dict[str, str], every: list[str]) -> str:
    """That there is no such key, and the full key that ends so, or means it elsewhere, else the nearest.

    Args:
        keys: those there are, with their values.
        targets: path of each node that builds something -> what.
        every: the groups of configurations.
    """
    _, key, value = overrides.split(word)
    value = "..." if value is None else value
    told = f"there is no key {key!r}"
    group, parent = key.partition(".")[0], key.rpartition(".")[0]
    if group != key and (readers := unread(verb, group)):
        return f"{told}: {readers}"
    groups = [one for one in every if not unread(verb, one)]
    if group in groups and not any(k.startswith(f"{group}.") for k in keys):
        return f"{told}; choose {group}=NAME first, whose key it may be"
    arguments = [f"{path}.{name}" for path, t in targets.items() if (s := signature(t)) for name in s.names]
    slip = get_close_matches(key, [k for k in keys if "." not in k], 1, 0.9)
    if not slip and (ends := ending(key, keys, arguments)):
        return f"{told}; did you mean {' or '.join(f'{end}={value}' for end in ends[:3])}?"
    taken = signature(targets[parent]) if parent in targets else None
    if taken and (now := new_argument(key.rpartition(".")[2], taken.names)):
        return f"{told}; it is now called {parent}.{now}={value}"
    if others := choices_with(key):
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return f"{told} here; it is a key of {', '.join(others[:3])}{more}"
    adds = f" (+{key}={value} adds it)" if taken and taken.open else ""  # what it passes on, nobody can tell
    if meant := keys_here(verb, key):  # if the verb has none of them, one that only looks alike is no help
        here = [one for one in meant if one in {*keys, *groups, *arguments}]
        return told + (f"; did you mean {' or '.join(map(repr, here[:3]))}?" if here else "") + adds
    beside = [f"{parent}.{name}" for name in taken.names] if taken else []
    return f"{told}{near(key, [k for k in (*keys, *beside, *groups) if not key.startswith(f'{k}.')])}{adds}"


def ending(key: str, keys: dict[str, Any], arguments: list[str]) -> list[str]:
    """The keys, and then the arguments that no file spells out, whose last parts are `key`."""
    found = [k for k, value in keys.items() if key and k.endswith(f".{key}") and "${" not in str(value)]
    return found + [one for one in arguments if one.endswith(f".{key}") and one not in (*keys, *found)]


def unread(verb: str, group: str) -> str | None:
    """That a verb reads no such group of this library, and which verbs do; None where it does."""
    if group in groups_of(verb) or not options(group):
        return None
    readers = [other for other in VERBS if group in groups_of(other)]
    return f"{verb} reads no {group}; {' and '.join(readers)} do{'' if len(readers) > 1 else 'es'}"


def choices_with(key: str) -> list[str]:
    """The choices, as GROUP=NAME, whose files have the key, which begins with their group."""
    group, _, inner = key.partition(".")
    found = []
    for name in options(group) if group.isidentifier() and inner else ():
        there = flatten(cast(DictConfig, OmegaConf.load(config_folder() / group / f"{name}.yaml")))
        if any(f"{one}.".startswith(f"{inner}.") for one in there):
            found.append(f"{group}={name}")
    return found


def now_called(word: str, takes: Collection[str]) -> str:
    """That an argument has another name by now, if it has."""
    now = new_argument(word, takes)
    return f"; it is now called {now}" if now else ""


def near(word: str, words: list[str]) -> str:
    """A question whether the nearest of `words` was meant; "" where none is near."""
    found = get_close_matches(word, words, 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
