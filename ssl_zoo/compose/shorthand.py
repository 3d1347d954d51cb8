"""Short ways to say what a command reads, spelt out: words without a key, public weights, own objectives."""

from __future__ import annotations

import re
from pathlib import Path

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.habits import keys_here
from ssl_zoo.compose.keys import top_keys
from ssl_zoo.compose.places import groups, options
from ssl_zoo.compose.unknown import near


def with_custom_objective(words: list[str]) -> list[str]:
    """objective._target_=... alone selects objective=custom."""
    own = any(word.startswith("objective._target_=") for word in words)
    chosen = any(word.startswith("objective=") for word in words)
    return ["objective=custom", *words] if own and not chosen else words


def with_public_backbone(words: list[str]) -> list[str]:
    """backbone=timm/NAME and backbone=hf/NAME are public weights of that name, or of a folder (hf/FOLDER)."""
    made: list[str] = []
    for word in words:
        home, slash, name = overrides.unquoted(word.removeprefix("backbone=")).partition("/")
        if not word.startswith("backbone=") or not slash or home not in ("timm", "hf"):
            made.append(word)
            continue
        typed = {overrides.split(one).key for one in words}
        said = [f"backbone.name={overrides.quote(name)}", "backbone.pretrained=true"]
        made += [f"backbone={home}", *(one for one in said if overrides.split(one).key not in typed)]
    return made


# Keys that words without a key stand for, in this order.
POSITIONS = {
    "report": ("run",),
    "export": ("run", "to"),
    "reproduce": ("file",),
    "look": ("data",),
    "worth": ("data",),
    "evaluate": ("run", "data"),
    "finetune": ("run", "data"),
    "embed": ("run", "data"),
    "predict": ("model", "data"),
    "generate": ("model", "prompt"),
}


def with_positions(verb: str, given: list[str]) -> list[str]:
    """The words, with the key of each that has none: one that is there as a file or folder, or that sets no
    key of the verb."""
    free = [key for key in POSITIONS.get(verb, ()) if not any(word.startswith(f"{key}=") for word in given)]
    known = {*top_keys(verb), *groups(), "hydra"} if free else set()
    made: list[str] = []
    for word in given:
        prefix, key, value = overrides.split(word)
        own = key.split(".")[0] in known
        strange = value is not None and looks_like_a_key(verb, key, value, free[:1] == ["prompt"])
        if free and (is_there(word) or not (prefix or own or strange)):
            named = free.pop(0)
            chosen = named in groups() and word in options(named)
            word = f"{named}={word if chosen else overrides.quote(word, named)}"
        made.append(word)
    return made


def looks_like_a_key(verb: str, key: str, value: str, text: bool) -> bool:
    """Whether what stands before = is more likely a key, be it a wrong one, than part of a path or text.

    Args:
        value: what stands behind it.
        text: whether a text is looked for, which may have any word before =.
    """
    if ("/" not in key and near(key, top_keys(verb))) or {*keys_here(verb, key)} & {*top_keys(verb)}:
        return True
    bare = re.fullmatch(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*", key) is not None
    return bare and "/" not in value and not text


def refuse_missing(verb: str, words: list[str]) -> None:
    """Raise ConfigError where the words, each with its key, name a run or a model that the verb reads (it has
    a position for it) and that is not there."""
    read = {"run", "model"} & {*POSITIONS.get(verb, ())}
    for word in words:
        _, key, value = overrides.split(word)
        named = overrides.unquoted(value or "")
        folder = Path(named).expanduser()
        if key not in read or named in ("", "null") or set(named) & set("$,") or is_there(str(folder)):
            continue
        beside = [str(one) for one in folder.parent.glob("*/") if not one.name.startswith(".")]
        hint = near(str(folder), beside) or "; `ssl-zoo pretrain` says at its end where a run was saved"
        raise ConfigError(f"{key}={named}: there is no folder {folder}{hint}")


def is_there(word: str) -> bool:
    """Whether a word is the path of a file or folder; one that is too long for a name is none."""
    try:
        return Path(word).exists()
    except OSError:
        return False
