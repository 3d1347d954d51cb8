"""Keys of a configuration and their values: which are read, what they take, and what a strange one may mean.

What a part takes is read from its source: a key that nothing reads is refused before anything is built.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import HANDED_OVER, ConfigError, config_folder
from ssl_zoo.compose.habits import keys_here
from ssl_zoo.compose.places import options
from ssl_zoo.compose.renamed import new_argument
from ssl_zoo.compose.schema import VERBS, fits, kind, least, name_type, parse_annotation, types_of
from ssl_zoo.compose.signatures import signature


def refuse_deletion(verb: str, word: str, targets: dict[str, str]) -> None:
    """Raise ConfigError for ~KEY where the verb would miss it.

    An argument of what is built may go, and an entry of such an argument, as a term of a sum is.
    """
    key = overrides.split(word).key
    parent = key.rpartition(".")[0]
    built = targets.keys() & {parent, parent.rpartition(".")[0]}
    if not built and parent != "budget" and key not in FREE_TO_GO:
        raise ConfigError(
            f"{word}: {verb} reads {key} and cannot do without it; give {key}=... another value"
        )


FREE_TO_GO = ("tokenizer", "experiment")


def refuse_unread(verb: str, cfg: DictConfig) -> None:
    """Raise ConfigError for a key that nothing reads, or an argument that is lacking."""
    keys, targets = flatten(cfg), node_targets(cfg)
    text = OmegaConf.to_yaml(cfg)
    for key in map(str, cfg):
        if key not in top_keys(verb) and not re.search(rf"\${{{re.escape(key)}[.}}]", text):
            value = keys.get(key, "...")
            others = {other: v for other, v in keys.items() if other != key}
            raise ConfigError(unknown(verb, f"{key}={value}", others, targets, []))
    for path, target in targets.items():
        taken = signature(target)
        node = OmegaConf.select(cfg, path)
        if taken is None or node is None or node.get(HANDED_OVER):
            continue
        given = [str(key) for key in node if str(key) not in RESERVED]
        if not taken.open and (strange := [key for key in given if key not in taken.names]):
            takes = [name for name in taken.names if not (node.get("_partial_") and name in taken.needed[:1])]
            raise ConfigError(
                f"{path}.{strange[0]}: {target.rpartition('.')[2]} takes no {strange[0]!r}"
                f"{now_called(strange[0], takes) or near(strange[0], takes)}; "
                f"it takes {', '.join(takes) or 'nothing'}"
            )
        lacking = [] if node.get("_partial_") or path == "backbone" or "_args_" in node else taken.needed
        if lacking := [name for name in lacking if name not in given]:
            raise ConfigError(f"{path}.{lacking[0]} is missing: {target.rpartition('.')[2]} needs it")
    if "trainer" in cfg:
        trainer, own = (
            signature("lightning.pytorch.trainer.trainer.Trainer"),
            signature("ssl_zoo.pretrain.run.pretrain"),
        )
        takes = [*(trainer.names if trainer else ()), *(own.names if own else ())]
        if strange := [str(key) for key in cfg.trainer if trainer and str(key) not in takes]:
            raise ConfigError(
                f"trainer.{strange[0]}: Lightning's Trainer takes no such argument{near(strange[0], takes)}"
            )
    for key, made in (("budget", "budget.Budget"), ("guard", "guard.Guard")):
        takes = list(signature(f"ssl_zoo.pretrain.{made}").names)  # pyright: ignore
        if strange := [str(one) for one in cfg.get(key) or () if str(one) not in takes]:
            what = "a budget is one of" if key == "budget" else "a guard takes"
            raise ConfigError(f"{key}.{strange[0]}: {what} {', '.join(takes)}{near(strange[0], takes)}")


RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")

LARGEST = 2**63 - 1
LEAST = {"batch_size": 1, "image_size": 1, "context": 1}  # of arguments of what is built, by their last name


def type_of(verb: str, key: str, targets: dict[str, str]) -> Any:
    """The type of a key, as `schema` or the source of what is built says it; `Any` where neither does."""
    known = types_of(verb)
    if key in known:
        return known[key]
    parent, _, name = key.rpartition(".")
    taken = signature(targets[parent]) if parent in targets else None
    found = parse_annotation(taken.types[name]) if taken and name in taken.types else None
    return Any if found is None else found


def refuse_values(verb: str, defaults: dict[str, Any], cfg: DictConfig) -> None:
    """Raise ConfigError for values of another type than their key has, or out of range.

    Args:
        defaults: the values of the same choices, of which nothing else was set.
    """
    targets = node_targets(cfg)
    for key, value in flatten(cfg).items():
        default, hint = defaults.get(key), type_of(verb, key, targets)
        inner = [one for one in defaults if one.startswith(f"{key}.")]
        if inner and value is not None and not isinstance(value, DictConfig):
            raise ConfigError(f"{key}={value} has keys of its own; set {' or '.join(inner[:5])}")
        if is_open(value) or (value is None and default is None):
            continue
        example = "" if default is None or is_open(default) else f", for example {default!r}"
        if value is None and not fits(None, hint):
            raise ConfigError(f"{key}=null: it takes {name_type(hint)}{example}")
        typed = fits(value, hint) if hint is not Any else key not in defaults or same_type(default, value)
        if not typed:
            takes = kind(default) if hint is Any else name_type(hint)
            raise ConfigError(f"{key}={format_value(value)} is {kind(value)}; it takes {takes}{example}")
        if isinstance(value, ListConfig) and not len(value) and (hint is not Any or default):
            raise ConfigError(f"{key}=[] is empty; give one or more")
        for number in value if isinstance(value, ListConfig) else [value]:
            refuse_number(
                key, number, least(hint) if least(hint) is not None else LEAST.get(key.split(".")[-1])
            )


def refuse_number(key: str, number: Any, smallest: float | None) -> None:
    """Raise ConfigError for a number that is out of range; other values pass."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return
    if not abs(number) <= LARGEST:  # nan is not, either
        raise ConfigError(f"{key}={str(number)[:20]} is out of range: no number of such size works")
    if smallest is not None and number < smallest:
        raise ConfigError(f"{key}={number} is too small; it takes {smallest} or more")


def is_open(value: Any) -> bool:
    """Whether a value is still to be found: an interpolation, or one that must be given."""
    return isinstance(value, str) and ("${" in value or value == "???")


def format_value(value: Any) -> str:
    """A value as an error shows it."""
    return str(value) if isinstance(value, (ListConfig, DictConfig)) else repr(value)


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


def unread(verb: str, group: str) -> str | None:
    """That a verb reads no such group of this library, and which verbs do; None where it does."""
    if group in groups_of(verb) or not options(group):
        return None
    readers = [other for other in VERBS if group in groups_of(other)]
    return f"{verb} reads no {group}; {' and '.join(readers)} do{'' if len(readers) > 1 else 'es'}"


def unknown(verb: str, word: str, keys: dict[str, Any], targets: dict[str, str], every: list[str]) -> str:
    """That there is no such key, and the full key that ends so, or means it elsewhere, else the nearest.

    Args:
        keys: those there are, with their values.
        targets: path of each node that builds something -> what.
        every: the groups of configurations.
    """
    _, key, value = overrides.split(word)
    value = "..." if value is None else value
    ends = [k for k, v in keys.items() if key and k.endswith(f".{key}") and "${" not in str(v)]
    for path, target in targets.items():
        taken = signature(target)
        if taken and key in taken.names and f"{path}.{key}" not in (*keys, *ends):
            ends.append(f"{path}.{key}")
    close = get_close_matches(key, [k for k in keys if "." not in k], 1, 0.9)
    group = key.partition(".")[0]
    every = [one for one in every if not unread(verb, one)]
    if "." in key and (told := unread(verb, group)):
        hint = f": {told}"
    elif group in every and not any(k.startswith(f"{group}.") for k in keys):
        hint = f"; choose {group}=NAME first, whose key it may be"
    elif ends and not close:
        hint = "; did you mean " + " or ".join(f"{end}={value}" for end in ends[:3]) + "?"
    else:
        parent = key.rpartition(".")[0]
        taken = signature(targets[parent]) if parent in targets else None
        if taken and (now := new_argument(key.rpartition(".")[2], taken.names)):
            return f"there is no key {key!r}; it is now called {parent}.{now}={value}"
        if others := choices_with(key):
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            return f"there is no key {key!r} here; it is a key of {', '.join(others[:3])}{more}"
        more = [f"{parent}.{name}" for name in taken.names] if taken else []
        arguments = [f"{path}.{one}" for path, t in targets.items() if (s := signature(t)) for one in s.names]
        if meant := keys_here(
            verb, key
        ):  # of which a verb may have none; then no word that only looks alike helps
            found = [one for one in meant if one in {*keys, *every, *arguments}]
            hint = f"; did you mean {' or '.join(map(repr, found[:3]))}?" if found else ""
        else:
            hint = near(key, [k for k in (*keys, *more, *every) if not key.startswith(f"{k}.")])
        if taken and taken.open:  # what it passes on, nobody can tell from here
            hint += f" (+{key}={value} adds it)"
    return f"there is no key {key!r}{hint}"


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


def same_type(default: Any, value: Any) -> bool:
    """Whether `value` may replace `default`, where no type is known: the same kind of value, or null."""
    if (
        default is None
        or value is None
        or isinstance(default, DictConfig)
        or is_open(default)
        or is_open(value)
    ):
        return True
    if isinstance(default, ListConfig):
        return isinstance(value, ListConfig)
    return fits(value, type(default))
