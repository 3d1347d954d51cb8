"""The verbs that do what a configuration says: pretrain, evaluate, generate, report and scale."""

from __future__ import annotations

import sys
from importlib import import_module

from omegaconf import DictConfig

import ssl_zoo
from ssl_zoo.cli.start import begin
from ssl_zoo.compose import overrides
from ssl_zoo.compose.application import launch
from ssl_zoo.compose.composition import ConfigError, settle
from ssl_zoo.compose.manual import page
from ssl_zoo.compose.places import place_of
from ssl_zoo.compose.shorthand import refuse_missing, with_positions
from ssl_zoo.compose.typed import typing


def run_verb(verb: str, args: list[str]) -> None:
    """Check the words, and run `ssl_zoo.cli.VERB.run`, or do what Hydra's own flags ask for.

    Exits with one line for words that cannot be composed.
    """
    try:
        flags, given = overrides.flags(args)
        if flags.help:
            print(page(verb, given))
            return
        if flags.version:
            print(ssl_zoo.__version__)
            return
        place = place_of(flags)
        flags.config_path = str(place.folder) if place.alone else None
        for line in overrides.twice(given):
            print(f"ssl-zoo {verb}: {line}", file=sys.stderr)
        named = with_positions(verb, given)
        asks = flags.cfg or flags.info or flags.hydra_help or flags.shell_completion
        if not asks:
            refuse_missing(verb, named)
        settled = settle(verb, given, place, flags.multirun)
    except ConfigError as error:
        sys.exit(f"ssl-zoo {verb}: {error}")
    if not asks:
        begin(verb, args)

    def run(cfg: DictConfig, choices: dict[str, str]) -> float | None:
        with typing(named):  # here, as a launcher may run this in a process of its own
            return import_module(f"ssl_zoo.cli.{verb}").run(cfg, choices)  # brings torch

    launch(verb, [*overrides.as_words(flags), *settled], run)
