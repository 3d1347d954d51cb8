"""`ssl-zoo pretrain`: build what the configuration names, and train."""

from __future__ import annotations

import json
import shlex
import sys

from omegaconf import DictConfig

from ssl_zoo.compose.pretraining import pretrain_from
from ssl_zoo.pretrain import launch


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Train, and print the summary. Exit code 143 after a SIGTERM."""
    found = pretrain_from(cfg, choices)
    if found.leads:
        print(json.dumps(found.summary, indent=1))
    # Lightning kills all processes that it launched as soon as one of them fails.
    if found.summary["stopped"] and not launch.by_lightning():
        sys.exit(143)
    if found.leads:
        typed = (word for word in reversed(sys.argv) if word.startswith("data="))
        words = [f"run={found.where}", next(typed, f"data={choices['data']}")]
        print(f"saved in {found.where}; next: {shlex.join(['ssl-zoo', 'evaluate', *words])}")
