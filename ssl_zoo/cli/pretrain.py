"""`ssl-zoo pretrain`: build what the configuration names, and train."""

from __future__ import annotations

import json
import sys
from typing import Any

from omegaconf import DictConfig

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError, config_folder
from ssl_zoo.compose.pretraining import pretrain_from
from ssl_zoo.compose.typed import data_words
from ssl_zoo.pretrain import launch


def run(cfg: DictConfig, choices: dict[str, str]) -> float | None:
    """Train, print the summary, and return the figure that sweeps go by. Exit code 143 after a SIGTERM."""
    found = pretrain_from(cfg, choices)
    if found.leads:
        print(json.dumps(found.summary, indent=1))
    # Lightning kills all processes that it launched as soon as one of them fails.
    if found.summary["stopped"] and not launch.by_lightning():
        sys.exit(143)
    if found.leads:
        run, *data = map(overrides.shell, [f"run={found.where}", *data_again(choices["data"])])
        if not found.labelled:
            print(f"to measure it, name data with labels: ssl-zoo evaluate {run} data=LABELLED")
        verb = "evaluate" if found.labelled else "embed"
        after = f"; next: ssl-zoo {verb} {' '.join([run, *data])}" if found.named else ""
        print(f"saved in {found.where}{after}")
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


def data_again(name: str) -> list[str]:
    """The words for the data as they were typed; of a sweep over several, those of this run, or a place for
    them.

    name: what the run is called after: the choice of the group, unless it names files.
    """
    words = data_words()
    if words and not any("," in word for word in words):
        return words
    return [f"data={name}" if (config_folder() / "data" / f"{name}.yaml").is_file() else "data=..."]
