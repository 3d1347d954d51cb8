"""The one door between configuration, which is data, and code: what it may build, and what it may tell Hydra.

Run folders, boards and YAML files come from strangers. What they say builds `parts()` in exactly this
spelling, and nothing else; `hydra.*` is this library's own. Only what is typed on a command line goes
further: a class that it names may be built, and the `hydra.*` keys that it gives are Hydra's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra._internal.hydra as hydra_internals
import hydra.utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import CompactHydraException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import ssl_zoo
from ssl_zoo.compose import renamed

TARGET = "_target_"
HANDED_OVER = "handed_over"  # marks what code gave as an object: config.yaml only says what it is called
SEARCHPATH, MODE = "hydra.searchpath", "hydra.mode"  # Hydra itself adds the mode to what was typed

# Parts that no YAML file of this library names, but configurations of runs and boards may.
PARTS = (
    "ssl_zoo.backbones.cnn.TimmCNN",
    "ssl_zoo.backbones.vision.TimmViT",
    "ssl_zoo.views.masks.Spans",
    "ssl_zoo.views.masks.WholeWords",
    "ssl_zoo.views.view.Views",
)
RECIPES = "ssl_zoo.views.recipes"  # of which any function may be named as well

# Of the node `hydra`: what Hydra fills in itself, and plain settings that a YAML file may choose.
FREE = re.compile(
    r"(overrides|runtime|help|hydra_help|sweeper\.params)\b.*|mode|verbose"
    r"|job\.(name|num|id|config_name|override_dirname)"
)


class ConfigError(ValueError):
    """The command line or a YAML file asks for something that is not there, or that it may not have."""


class HydraKeyError(ConfigError, CompactHydraException):
    """A `hydra.*` key of a YAML file; Hydra prints it as it stands."""


def config_folder() -> Path:
    """configs/ inside the installed package, else beside it in a checkout."""
    package = Path(ssl_zoo.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "pretrain.yaml").exists():
            return folder
    raise ConfigError(f"no configs folder in {package} or beside it: reinstall ssl-zoo")


# What configurations may build


@functools.cache
def parts() -> frozenset[str]:
    """Full names that any configuration may build: those in the YAML files of this library, PARTS, and the
    recipes of views."""
    spelt = re.compile(rf"\b{TARGET}:\s*([\w.]+)")
    recipes = Path(ssl_zoo.__file__).parent.joinpath("views/recipes.py").read_text(encoding="utf-8")
    views = {f"{RECIPES}.{name}" for name in re.findall(r"^def ([a-z]\w*)", recipes, re.MULTILINE)}
    texts = (file.read_text(encoding="utf-8") for file in config_folder().rglob("*.yaml"))
    return frozenset(PARTS) | views | {name for text in texts for name in spelt.findall(text) if is_own(name)}


def is_own(name: str) -> bool:
    """Whether a file of this library defines the name itself, and does not only lead to it."""
    module, _, short = name.rpartition(".")
    package, *rest = module.split(".")
    file = Path(ssl_zoo.__file__).parent.joinpath(*rest).with_suffix(".py")
    if package != "ssl_zoo" or not rest or not file.is_file():
        return False
    return re.search(rf"^(class|def) {short}\b", file.read_text(encoding="utf-8"), re.MULTILINE) is not None


# Names that the words of the command line spell, for as long as it runs.
NOTHING: frozenset[str] = frozenset()
_names: ContextVar[frozenset[str]] = ContextVar("names", default=NOTHING)


def names_of_command_line() -> frozenset[str]:
    """The names that may be built here because the command line spells them."""
    return _names.get()


@contextlib.contextmanager
def naming(names: Collection[str]) -> Iterator[None]:
    """Within, these may be built as well: the command line names them. They may lie in the working folder."""
    token, folder = _names.set(_names.get() | frozenset(names)), os.getcwd()
    if names:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        _names.reset(token)
        if names and folder in sys.path:
            sys.path.remove(folder)


def refuse_unknown_targets(cfg: Any, trusted: Collection[str] = ()) -> None:
    """Refuse what builds anything but this library's parts, the `trusted`, and what the command line names.

    Interpolations are looked at as they are written and as they are resolved.

    Raises:
        ConfigError: with the full key.
    """
    allowed = parts() | names_of_command_line() | frozenset(trusted)
    node = cfg if OmegaConf.is_config(cfg) else OmegaConf.create(cfg)
    where = node._get_full_key(None)
    plain = OmegaConf.to_container(node)
    try:
        resolved = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException:  # then nothing can be built of it either, and Hydra says why
        resolved = plain
    for key, value in (*targets(plain, where), *targets(resolved, where)):
        if not isinstance(value, str) or value not in allowed:
            raise ConfigError(
                f"{key}={value} is not part of ssl_zoo that a configuration may build{near(value, allowed)}; "
                "to run code of your own, name it on the command line"
            )
    for key, value in nodes({} if resolved is plain else resolved, where):
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key} hides an interpolation, {value!r}, in a text: write it in the open")


def near(name: Any, allowed: Collection[str]) -> str:
    """What a full name is called now, or the allowed one that is nearest to it; "" without either."""
    if str(name) in renamed.PARTS:
        return f" (it is now called {renamed.PARTS[str(name)]})"
    found = get_close_matches(str(name), allowed, 1, 0.8)
    return f" (did you mean {found[0]}?)" if found else ""


def targets(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full key and value of every `_target_`, also inside lists; the value of a misspelt key is None."""
    for key, value in nodes(tree, prefix):
        last = key.rpartition(".")[2]
        if last.strip().casefold() == TARGET and value != "???":
            yield key, value if last == TARGET else None


def named_in(part: DictConfig) -> list[str]:
    """The value of every `_target_` of a part of a configuration."""
    return [value for _, value in targets(OmegaConf.to_container(part))]


def nodes(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full key and value of everything in nested dicts and lists, outer ones first."""
    if isinstance(tree, (dict, list)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            name = f"{prefix}.{key}".removeprefix(".")
            yield name, value
            yield from nodes(value, name)


def instantiate(config: DictConfig | ListConfig | dict[str, Any], *args: Any, **options: Any) -> Any:
    """Hydra's `instantiate`, for what may be built. No other file of this library calls Hydra's.

    Raises:
        ConfigError: the configuration names what it may not build.
    """
    if isinstance(config, (dict, DictConfig)) and config.get(HANDED_OVER):
        raise ConfigError(
            f"{config.get(TARGET)} was handed over as an object by the program that started the run: "
            "config.yaml says what it is called, and cannot build it"
        )
    refuse_unknown_targets(config)
    return hydra.utils.instantiate(config, *args, **options)


# What Hydra is told


def parsed(words: Iterable[str]) -> list[Override]:
    """What Hydra makes of words; those that it cannot read are left for it to complain of."""
    found: list[Override] = []
    for word in words:
        with contextlib.suppress(HydraException):
            found += OverridesParser.create().parse_overrides([word])
    return found


def named(words: Iterable[str]) -> frozenset[str]:
    """The classes and functions that words name, alone or within a value."""
    trees = ({str(one.key_or_group): value} for one in parsed(words) for value in choices(one))
    return frozenset(name for tree in trees for _, name in targets(tree) if isinstance(name, str))


def choices(override: Override) -> list[Any]:
    """The value that a word gives, or all those that it sweeps over."""
    value = override.value()
    if isinstance(value, Sweep):  # a choice's values may be quoted
        return [getattr(one, "text", one) for one in getattr(value, "list", ())]
    return [value]


def hydra_words(words: Iterable[str]) -> tuple[str, ...]:
    """Those of the words that tell Hydra something."""
    return tuple(str(one.input_line) for one in parsed(words) if is_hydra(one))


def of_hydra(key: str) -> bool:
    """Whether a key or a group is Hydra's own."""
    return re.split(r"[./@]", key)[0] == "hydra"


def is_hydra(override: Override) -> bool:
    """Whether a word tells Hydra itself something."""
    return of_hydra(str(override.key_or_group))


def refuse_hydra_words(words: list[str]) -> list[str]:
    """The words of a recipe, if none of them tells Hydra something.

    Raises:
        ConfigError: one does.
    """
    for one in parsed(hydra_words(words)):
        raise not_typed(str(one.key_or_group), one.value())
    return words


def from_command_line(function: Callable[..., None]) -> Callable[..., None]:
    """`function(verb, words, ...)` within what its words name, and with Hydra behind the gate."""

    @functools.wraps(function)
    def wrapped(verb: str, words: list[str], *more: Any) -> None:
        flags, after = get_args_parser().parse_known_args(words)
        if flags.experimental_rerun is not None:
            sys.exit(
                f"ssl-zoo {verb}: --experimental-rerun unpickles a file, which may run anything; give the "
                "words of the run again"
            )
        typed = [*flags.overrides, *after]
        with naming(named(typed)), guarded(typed):
            function(verb, words, *more)

    return wrapped


@contextlib.contextmanager
def guarded(words: Iterable[str]) -> Iterator[None]:
    """Within, all that Hydra composes passes `Loader`, before Hydra acts on any of it; `words` are typed."""
    before = hydra_internals.ConfigLoaderImpl  # pyright: ignore
    hydra_internals.ConfigLoaderImpl = functools.partial(Loader, hydra_words(words))  # pyright: ignore
    try:
        yield
    finally:
        hydra_internals.ConfigLoaderImpl = before  # pyright: ignore


class Loader(ConfigLoaderImpl):
    """Hydra's composition, which refuses `hydra.*` keys that come out of YAML files.

    Hydra builds callbacks, launchers, sweepers and logging handlers of them, and sets environment variables,
    before any function of ours is called. A launcher carries this loader along to its processes.
    """

    def __init__(self, typed: tuple[str, ...], config_search_path: Any):
        super().__init__(config_search_path)
        self.typed = typed
        self.ahead: tuple[list[str], DictConfig] | None = None

    def load_configuration(
        self, config_name: Any, overrides: list[str], run_mode: RunMode, *args: Any, **options: Any
    ) -> DictConfig:
        """As Hydra's, which composes once to look up its mode, and the same again to run it: that is one."""
        looking = options.get("validate_sweep_overrides") is False
        if looking and not any(one.is_sweep_override() for one in parsed(overrides)):
            with contextlib.suppress(HydraException):  # a group may be left to a sweeper: then as Hydra does
                cfg = self.refusing(config_name, overrides, RunMode.RUN, *args, **options)
                self.ahead = [*overrides, f"{MODE}=RUN"], cfg
                return cfg
        if self.ahead and self.ahead[0] == overrides and run_mode is RunMode.RUN:
            cfg, self.ahead = self.ahead[1], None
            cfg.hydra.mode = run_mode
            cfg.hydra.overrides.hydra.append(overrides[-1])
            return cfg
        return self.refusing(config_name, overrides, run_mode, *args, **options)

    def refusing(
        self, config_name: Any, overrides: list[str], run_mode: RunMode, *args: Any, **options: Any
    ) -> DictConfig:
        """Hydra's composition, without `hydra.*` keys of YAML files."""
        cfg = super().load_configuration(config_name, overrides, run_mode, *args, **options)
        own = tuple(word for word in hydra_words(overrides) if not word.startswith(MODE))
        found, usual = leaves(cfg), usual_hydra(own)
        for key in (*found, *usual):
            if found.get(key) != usual.get(key) and not FREE.fullmatch(key):
                raise not_typed(f"hydra.{key}", found.get(key))
        return cfg

    def _process_config_searchpath(self, config_name: Any, parsed_overrides: list[Override], repo: Any):
        """Refuse places that nobody typed, before any is searched: `pkg://NAME` imports a module."""
        typed = {(one.key_or_group, str(one.value())) for one in parsed(self.typed)}
        for one in parsed_overrides:
            key, value = str(one.key_or_group), one.value()
            if is_hydra(one) and (key, str(value)) not in typed and key != MODE:
                raise not_typed(key, value)
        main = None if config_name is None else repo.load_config(config_path=config_name)
        places = None if main is None else OmegaConf.select(main.config, SEARCHPATH)
        if places and SEARCHPATH not in {key for key, _ in typed}:
            raise not_typed(SEARCHPATH, places)
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


def not_typed(key: str, value: Any) -> HydraKeyError:
    """The error of a `hydra.*` key that no command line gave."""
    return HydraKeyError(
        f"{key}={value} comes out of a YAML file or a recipe, and may run code: only the words of a command "
        f"line set it. Look at that file, and give {key}=... yourself if you mean it"
    )


def leaves(cfg: DictConfig) -> dict[str, Any]:
    """Full key and value of what the node `hydra` says, before interpolation; empty containers too."""
    tree = OmegaConf.to_container(cfg.hydra, resolve=False)
    return {key: value for key, value in nodes(tree) if not isinstance(value, (dict, list)) or not value}


@functools.cache
def usual_hydra(words: tuple[str, ...]) -> dict[str, Any]:
    """What Hydra is told by this library and the words of a command line, without other YAML files."""
    loader = ConfigLoaderImpl(create_config_search_path(str(config_folder())))
    places = [one for one in parsed(words) if one.key_or_group == SEARCHPATH]
    kept = [word for word in words if word not in [one.input_line for one in places]]
    cfg = loader.load_configuration("report", kept, RunMode.RUN)
    for one in places:
        cfg.hydra.searchpath = one.value()
    return leaves(cfg)
