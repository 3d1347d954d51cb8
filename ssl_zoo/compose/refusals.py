"""What of a configuration is refused before anything is built: keys that nothing reads, and strange values.

What a part takes is read from its source.
"""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import HANDED_OVER, ConfigError
from ssl_zoo.compose.keys import flatten, node_targets, top_keys
from ssl_zoo.compose.schema import fits, kind, least, name_type, parse_annotation, types_of
from ssl_zoo.compose.signatures import signature
from ssl_zoo.compose.unknown import near, now_called, unknown

FREE_TO_GO = ("tokenizer", "experiment")

RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")

LARGEST = 2**63 - 1

LEAST = {"batch_size": 1, "image_size": 1, "context": 1}  # of arguments of what is built, by their last name


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


def type_of(verb: str, key: str, targets: dict[str, str]) -> Any:
    """The type of a key, as `schema` or the source of what is built says it; `Any` where neither does."""
    known = types_of(verb)
    if key in known:
        return known[key]
    parent, _, name = key.rpartition(".")
    taken = signature(targets[parent]) if parent in targets else None
    found = parse_annotation(taken.types[name]) if taken and name in taken.types else None
    return Any if found is None else found


def is_open(value: Any) -> bool:
    """Whether a value is still to be found: an interpolation, or one that must be given."""
    return isinstance(value, str) and ("${" in value or value == "???")


def format_value(value: Any) -> str:
    """A value as an error shows it."""
    return str(value) if isinstance(value, (ListConfig, DictConfig)) else repr(value)


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
