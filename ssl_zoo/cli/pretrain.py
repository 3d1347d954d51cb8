"""`ssl-zoo pretrain`: build what the configuration names, and train."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

from omegaconf import DictConfig

from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.pretraining import pretrain_from
from ssl_zoo.pretrain import launch

OWN = ("image_folder", "image_captions", "text_files")  # groups whose keys say which data it is


def run(cfg: DictConfig, choices: dict[str, str]) -> float | None:
    """Train, print the summary, and return the figure that sweeps go by. Exit code 143 after a SIGTERM."""
    found = pretrain_from(cfg, choices)
    if found.leads:
        print(json.dumps(found.summary, indent=1))
    # Lightning kills all processes that it launched as soon as one of them fails.
    if found.summary["stopped"] and not launch.by_lightning():
        sys.exit(143)
    if found.leads:
        named = shlex.quote(f"run={found.where}")  # a folder may have spaces
        print(f"saved in {found.where}; next: ssl-zoo evaluate {named} {typed_data(choices['data'])}")
    return optimized(cfg.optimized_metric, found.summary)


def optimized(name: str | None, summary: dict[str, Any]) -> float | None:
    """The figure of a summary that a sweeper is told; None where there is none to choose by itself.

    name: of the figure; None = knn, and the loss on held-out rows where that is not measured.

    Raises:
        ConfigError: it names no figure.
    """
    figures = {key: float(one) for key, one in summary.items() if type(one) in (int, float)}
    if name is None:
        return figures.get("knn", figures.get("val/loss"))
    if name not in figures:
        raise ConfigError(
            f"optimized_metric={name} is no figure of summary.json, which has {', '.join(figures)}"
        )
    return figures[name]


def typed_data(choice: str) -> str:
    """The word for the data as it was typed, if it says all of it; else a place for it.

    choice: of the group, as several runs of one command (-m) have one each.
    """
    if choice not in OWN:
        return f"data={choice}"
    typed = [word for word in sys.argv[1:] if word.startswith("data=")]
    whole = len(typed) == 1 and typed[0].removeprefix("data=") not in OWN and "," not in typed[0]
    return shlex.quote(typed[0]) if whole else "data=..."
