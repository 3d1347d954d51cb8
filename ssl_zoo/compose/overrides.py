"""The words of a command line: which are Hydra's flags, which set keys, and how a value is quoted for Hydra.

Hydra's grammar is honoured: `+key=`, `++key=`, `~key`, quoted values, lists, dicts, and sweeps after -m.
A value that is free text (a path) means itself, whatever is in it.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssl_zoo.compose.gate import ConfigError, of_hydra

# Keys that hold a path or another text: 1e-3, [x] and a=b are names of folders here.
TEXTS = re.compile(
    r"run|init|model|prompt|text|query|file|out|push|wandb|resume|data_dir|(data|tokenizer|backbone)\.name"
    r"|data\.cache"
)
SOURCES = re.compile(
    r"data\.(train|validation|test|unlabelled|classes)"
)  # texts, or lists and mappings of them
VERBATIM = ("prompt", "text", "query")  # texts in which nothing is filled in
SWITCHES = ("help", "resolve", "run", "multirun", "shell_completion", "hydra_help", "version")
VALUED = ("cfg", "package", "config_path", "config_name", "config_dir", "info")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
LONGEST = 4000  # characters of a word; Python reads no integer of more than 4,300 digits


class Word(NamedTuple):
    """A word that sets a key.

    Attributes:
        prefix: "", "+", "++" or "~".
        key: the full key.
        value: None where there is no =.
    """

    prefix: str
    key: str
    value: str | None

    def __str__(self) -> str:
        return f"{self.prefix}{self.key}" + ("" if self.value is None else f"={self.value}")


def split(word: str) -> Word:
    """The parts of a word."""
    found = re.fullmatch(r"(\+\+|\+|~)?([^=]*)(?:=(.*))?", word, re.DOTALL)
    assert found
    return Word(found[1] or "", found[2], found[3])


class Parser(argparse.ArgumentParser):
    """Argparse, whose complaints are ConfigErrors that list the flags."""

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"unrecognized arguments: (--?([\w-]+))", message):
            key = found[2].replace("-", "_")
            message = f"there is no flag {found[1]}; keys are written without dashes, {key}=VALUE"
        raise ConfigError(f"{message}. Flags: {' '.join(map(dashed, SWITCHES + VALUED))}")


def dashed(flag: str) -> str:
    """A flag as it is typed: config_dir is --config-dir."""
    return f"--{flag.replace('_', '-')}"


def flags(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's flags, wherever they stand, and the other words.

    Raises:
        ConfigError: an unknown flag, or one without its value.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    for short, one in zip(("-h", None, "-r", "-m", "-sc", None, None), SWITCHES, strict=True):
        names = [dashed(one), *([short] if short else [])]
        parser.add_argument(*names, action="store_true")
    for short, one in zip(("-c", "-p", "-cp", "-cn", "-cd", "-i"), VALUED, strict=True):
        known = {"cfg": ("job", "hydra", "all"), "info": INFO}.get(one)
        parser.add_argument(dashed(one), short, choices=known)
    parser.add_argument("--experimental-rerun")
    parser.add_argument("overrides", nargs="*")
    given: list[str] = []
    for word, after in zip(words, [*words[1:], ""], strict=False):  # the value of --info may be left out
        given += [word, "all"] if word in ("-i", "--info") and after not in INFO else [word]
    found = parser.parse_intermixed_args(given)
    if found.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun unpickles a file, which may run anything; give the words of the run again"
        )
    return found, found.overrides


def as_words(found: argparse.Namespace) -> list[str]:
    """The flags as Hydra reads them."""
    switches = [dashed(one) for one in SWITCHES if getattr(found, one)]
    valued = [(dashed(one), getattr(found, one)) for one in VALUED if getattr(found, one)]
    return [*switches, *(part for pair in valued for part in pair)]


def refuse_unreadable(words: list[str]) -> None:
    """Raise ConfigError for a word that no configuration can hold."""
    for word in words:
        start = word[:40].encode("utf-8", "backslashreplace").decode()
        if "\0" in word:
            raise ConfigError(f"a word holds a null byte: {start!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise ConfigError(
                f"the word {start!r} holds bytes that are not UTF-8, which no configuration can keep; rename "
                "the file, or make a link to it (ln -s) with another name"
            )
        if len(word) > LONGEST:
            raise ConfigError(f"the word {start + '...'!r} has {len(word):,} characters; at most {LONGEST:,}")
        key = split(word).key
        if split(word).value == "" and re.fullmatch(r"[A-Za-z_][\w./@:-]*", key):  # others are texts
            raise ConfigError(f"{word} is empty: give a value, or {key}=null for none")


def twice(words: list[str]) -> list[str]:
    """A sentence for each key that two words set, of which the later counts."""
    last = {split(word).key: word for word in words}
    keys = [split(word).key for word in words]
    return [
        f"{key} is given twice; the last counts, {word}" for key, word in last.items() if keys.count(key) > 1
    ]


def quoted(word: str, sweeps: bool = False) -> str:
    """The word, quoted where Hydra would otherwise not read what was meant.

    Args:
        sweeps: whether a comma makes several runs (-m).

    Raises:
        ConfigError: what was meant cannot be told, with the quoting that works.
    """
    prefix, key, value = split(word)
    if value is None or prefix == "~" or value == "null" or of_hydra(key):
        return word
    made = parsed(f"{prefix}k={value}")  # of the value alone
    text, source = TEXTS.fullmatch(key), SOURCES.fullmatch(key)
    if text or source:
        kept = isinstance(made, QuotedString) or (sweeps and isinstance(made, Sweep))
        kept |= source is not None and isinstance(made, (list, dict)) and not Path(value).exists()
        return word if kept else f"{prefix}{key}={quote(value, key)}"
    if isinstance(made, HydraException) and value[0] in "[{'\"":
        raise ConfigError(
            f"{word} is not in Hydra's grammar. If it is a list, lists are written [1,2] and dicts {{a:1}}; "
            f"if it is a text, quote it: {shell(f'{prefix}{key}={quote(value)}')}"
        )
    if isinstance(made, Sweep) and not sweeps:
        raise ConfigError(
            f"{word} names several values: a list is {shell(f'{prefix}{key}=[{value}]')}, several runs need "
            f"the flag -m, and a text is {shell(f'{prefix}{key}={quote(value)}')}"
        )
    return f"{prefix}{key}={quote(value)}" if isinstance(made, HydraException) else word


def opened(word: str) -> str:
    """A word that sets several keys within a key, KEY={NAME: VALUE}, as Hydra takes it where some of them are
    not there yet; or a sweep over such values."""
    return f"++{word}" if not split(word).prefix and inner(word) else word


def inner(word: str) -> dict[str, Any]:
    """What KEY={NAME: VALUE} sets within its key, the first of a sweep; {} for a word of another kind, and
    for a group."""
    _, key, value = split(word)
    if "." not in key or not (value or "").lstrip().startswith("{"):
        return {}
    made = parsed(word)
    if isinstance(made, ChoiceSweep) and all(isinstance(one, dict) for one in made.list):
        made = made.list[0]
    return {str(name): one for name, one in made.items()} if isinstance(made, dict) else {}


def parsed(word: str) -> Any:
    """The value that Hydra reads in a word, or its complaint."""
    try:
        return OverridesParser.create().parse_override(word)._value
    except HydraException as error:
        return error
    except ValueError as error:  # an integer of too many digits
        return HydraException(str(error))


def quote(value: str, key: str = "") -> str:
    """A text in quotes for Hydra. A ${...} that is no interpolation is escaped, and so means itself; in the
    values of some keys, none is one."""
    escaped = key in VERBATIM
    try:
        OmegaConf.create({"k": value})
    except OmegaConfBaseException:
        escaped = True
    value = value.replace("${", "\\${") if escaped else value
    return QuotedString(value, Quote.single).with_quotes()


def escape(key: str) -> str:
    """A key of a dict for Hydra, which takes no quotes there."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", key)


def shell(word: str) -> str:
    """The word as one types it in a shell."""
    if re.fullmatch(r"[\w@%+=:,./-]+", word):
        return word
    return f'"{word}"' if not set(word) & set('"$`\\!') else shlex.quote(word)


def unquoted(value: str) -> str:
    """The text of a value that may be quoted."""
    made = parsed(f"k={value}")
    return made.text if isinstance(made, QuotedString) else value


def items(value: str) -> list[str]:
    """The choices that a value names: one, or several in a list."""
    made = parsed(f"k={value}")
    return [str(one) for one in made] if isinstance(made, list) else [unquoted(value)]


def spread(words: list[str]) -> Iterator[list[str]]:
    """Runs of a sweep that, together, hold each value of each word once or more, of an interval its ends."""
    values: list[list[str]] = []
    for word in words:
        one = OverridesParser.create().parse_override(word)
        swept: Iterable[Any] = ()
        if one.is_interval_sweep():
            between: Any = one.value()
            swept = (between.start, between.end)
        elif one.is_range_sweep() or (one.is_sweep_override() and hasattr(one.value(), "list")):
            swept = one.sweep_string_iterator()
        values.append([f"{one.get_key_element()}={value}" for value in swept] or [word])
    for i in range(max(map(len, values), default=1)):
        yield [several[min(i, len(several) - 1)] for several in values]
