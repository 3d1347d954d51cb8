"""From the arguments of a Python call to the words of the command, and the objects that no word can say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np

from ssl_zoo.compose import objects, overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.keys import groups_of
from ssl_zoo.compose.objects import Objects


def as_words(verb: str, arguments: Mapping[str, Any]) -> tuple[list[str], Objects]:
    """The words of the command that say the same, and the objects that no word can say.

    Raises:
        ConfigError, DataError: an argument that is neither, with what to hand over instead.
    """
    live: dict[str, Any] = {}
    words: list[str] = []
    own = ""  # the class that the objective is, whose arguments no YAML file lists
    groups = groups_of(verb)
    for key, value in arguments.items():
        key = key.replace("__", ".")
        if value is None and key in (*groups, "run", "init", "out", "push", "labels"):
            continue
        if key == "objective" and not isinstance(value, (str, Mapping)):
            made = objects.as_objective(value)
            if isinstance(made, type) and objects.can_be_named(made):
                own = objects.named(made)
                words.append(f"objective._target_={own}")
            else:
                live[key] = made
        elif key == "backbone" and not isinstance(value, (str, Mapping)):
            live[key] = objects.as_backbone(value)
        elif key == "data" and not is_worded(value):
            live[key] = objects.as_data(value, verb)
        else:
            words += [f"{name}={literal(one, name)}" for name, one in flattened(key, value)]
    for i, word in enumerate(words):
        group = word.partition(".")[0]
        if group in live and "." in word.partition("=")[0]:
            raise ConfigError(f"{word}: {group} is an object here; set it where the object is made")
        if own and group == "objective" and not word.startswith("objective._target_"):
            words[i] = f"+{word}"
    return words, objects.Objects(**live)


def is_worded(data: Any) -> bool:
    """Whether words can say it: a name, a path, or keys of the group with plain values."""
    if isinstance(data, Mapping):
        return all(map(is_spelt, data.values()))
    return isinstance(data, (str, PathLike))


def is_spelt(value: Any) -> bool:
    """Whether `literal` takes a value: a plain one, a path, or lists and mappings of them."""
    if isinstance(value, Mapping):
        return all(map(is_spelt, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_spelt, value))
    return objects.is_plain(value) or isinstance(value, (PathLike, np.generic))


def flattened(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Full keys and values: a dict sets the keys within a key. Sources of data may be dicts themselves."""
    if isinstance(value, Mapping) and not key.startswith("data."):
        for inner, one in value.items():
            yield from flattened(f"{key}.{inner}".replace("__", "."), one)
    else:
        yield key, value


def literal(value: Any, key: str) -> str:
    """A value as a word spells it.

    Args:
        key: the full key of the value, for the error.

    Raises:
        ConfigError: it is not plain, or a key of a dict cannot be spelt.
    """
    if hasattr(value, "item") and not hasattr(value, "__len__"):  # a number of NumPy's
        value = value.item()
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, PathLike)):
        text = fspath(value)
        return text if overrides.parsed(f"k={text}") == text else overrides.quote(text)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(literal(one, key) for one in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{overrides.escape(str(name))}:{literal(one, key)}" for name, one in value.items())
        made = "{" + ",".join(pairs) + "}"
        if not isinstance(overrides.parsed(f"k={made}"), dict):
            raise ConfigError(f"{key}: Hydra cannot spell the keys {', '.join(map(str, value))}")
        return made
    raise ConfigError(
        f"{key}: {type(value).__name__} is no plain value (a number, a text, a list or a dict of them). "
        "Objects are taken as objective, backbone and data; others go into functools.partial(ITS_CLASS, ...)"
    )
