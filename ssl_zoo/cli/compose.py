"""From the words of a command line to a checked configuration, with errors that name the near match.

The only place that composes with Hydra; the verbs only instantiate. Composition and checks need no torch,
so a typo stops at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_zoo.cli.gate import (
    ConfigError,
    config_folder,
    from_command_line,
    guarded,
    names_of_command_line,
    naming,
    refuse_unknown_targets,
)

# Null unless set, and then no text.
NUMBERS = re.compile(r"steps|budget\.\w+|threads|validation_limit|labels|length|trainer\.gradient_clip_val")


def options(group: str) -> list[str]:
    """The choices of a group: objective, backbone, data, ..."""
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


@from_command_line
def run_verb(verb: str, words: list[str]) -> None:
    """Compose, check, and run `ssl_zoo.cli.VERB.run(cfg)`; Hydra's own flags pass through."""
    words = with_custom_objective(words)
    words = with_named_run(words) if verb == "report" else words
    try:
        if not any(word.startswith("-") for word in words):
            check(verb, words)
    except ConfigError as error:
        sys.exit(f"ssl-zoo {verb}: {error}")
    named = names_of_command_line()
    script, sys.argv = sys.argv[0], [f"ssl-zoo {verb}", *words]
    run: Callable[..., None] = import_module(f"ssl_zoo.cli.{verb}").run

    def task(cfg: DictConfig) -> None:
        sys.argv = [script, verb, *words]  # Lightning starts the other processes of DDP by it
        try:
            choices = HydraConfig.get().runtime.choices
            with naming(named):  # again: a launcher may run this in a process of its own
                refuse_unknown_targets(cfg)
                run(cfg, {str(k): str(v) for k, v in choices.items()})
        except EXPECTED as error:
            if os.environ.get("SSL_ZOO_TRACEBACK"):
                raise
            sys.exit(f"ssl-zoo {verb}: {explain(error)}")

    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(task)()


# Errors that explain themselves; anything else is a bug and keeps its traceback.
EXPECTED = (ValueError, RuntimeError, OSError, ImportError, HydraException, OmegaConfBaseException)


def explain(error: BaseException) -> str:
    """The message of an error, and of the one that Hydra wrapped around it."""
    inner = error.__cause__
    if isinstance(error, HydraException) and inner is not None:
        where = re.search(r"full_key: (\S+)", str(error))
        return f"{inner}" + (f" (in {where.group(1)})" if where else "")
    return str(error)


def with_custom_objective(words: list[str]) -> list[str]:
    """objective._target_=... alone selects objective=custom."""
    own = any(word.startswith("objective._target_=") for word in words)
    chosen = any(word.startswith("objective=") for word in words)
    return ["objective=custom", *words] if own and not chosen else words


def with_named_run(words: list[str]) -> list[str]:
    """A first word that is no KEY=VALUE and no flag is the folder of the run."""
    if not words or "=" in words[0] or words[0].startswith("-"):
        return words
    quoted = words[0].replace("\\", "\\\\").replace("'", "\\'")
    return [f"run='{quoted}'", *words[1:]]


def build(verb: str, words: list[str]) -> DictConfig:
    """Hydra's composition, outside an application."""
    GlobalHydra.instance().clear()
    with guarded(words), initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(verb, overrides=words)


def check(verb: str, words: list[str]) -> None:
    """Raise ConfigError, with the full key and a near match, for what cannot be composed.

    Also refuses a value of another type than the default it replaces.
    """
    for word in words:
        if "=" not in word:
            raise ConfigError(f"{word!r} is not KEY=VALUE")
    groups = [word for word in words if (config_folder() / word.split("=")[0].lstrip("+~")).is_dir()]
    for word in groups:
        group, choice = word.split("=", 1)
        if choice not in options(group) and choice != "null":
            raise ConfigError(
                f"{group}={choice} does not exist{near(choice, options(group)) or '.'} {known(group)}"
            )
    missing = [g for g in mandatory(verb) if not any(word.startswith(f"{g}=") for word in groups)]
    if missing and not any(word.startswith("experiment=") for word in groups):  # a recipe may choose them
        raise ConfigError(f"{missing[0]}=... is missing. {known(missing[0])}")
    try:
        plain = build(verb, groups)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error
    keys = flatten(plain)
    for word in words:
        if word in groups or word[0] in "+~" or word.startswith("hydra."):
            continue
        key = word.split("=", 1)[0]
        if key not in keys and not any(other.startswith(f"{key}.") for other in keys):
            everything = [*keys, *(p.name for p in config_folder().iterdir() if p.is_dir())]
            everything = [other for other in everything if not key.startswith(f"{other}.")]
            raise ConfigError(f"there is no key {key!r}{near(key, everything)} (+{key}=... would add it)")
    try:
        full = build(verb, words)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error
    changed = flatten(full)
    for key, default in keys.items():
        if default is None and NUMBERS.fullmatch(key) and isinstance(changed.get(key), str):
            raise ConfigError(f"{key}={changed[key]!r} is a str; it takes a number, or null")
        if key == "backbone.pretrained" and isinstance(changed.get(key), str):
            continue  # the path of a weight file, which is looked for when the backbone is built
        if key in changed and not same_type(default, changed[key]):
            raise ConfigError(
                f"{key}={changed[key]!r} is a {type(changed[key]).__name__}; it takes a "
                f"{type(default).__name__}, for example {default!r}"
            )


def mandatory(verb: str) -> list[str]:
    return {"evaluate": ["data"], "report": []}.get(verb, ["objective", "backbone", "data"])


def near(word: str, words: list[str]) -> str:
    found = get_close_matches(word, words, 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def known(group: str) -> str:
    return f"Choices for {group}: {', '.join(options(group))}"


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
    """Whether `value` may replace `default`: same type, an int for a float, null either way."""
    free = (type(None), DictConfig)
    if isinstance(default, free) or value is None:
        return True
    if isinstance(default, str) and ("${" in default or default == "???"):
        return True
    if isinstance(value, str) and "${" in value:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, str) and isinstance(value, (int, str)):
        return True
    return isinstance(value, type(default))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain dicts and lists, resolved."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # pyright: ignore
