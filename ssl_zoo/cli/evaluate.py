"""`ssl-zoo evaluate`: what is the pretrained backbone of a run worth on a labelled set?"""

from __future__ import annotations

from omegaconf import DictConfig

from ssl_zoo.compose.evaluation import evaluate_from


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Measure, and print the table."""
    table = evaluate_from(cfg, choices)
    print(table)
    print(f"written to {table.folder}")
