"""`ssl-zoo evaluate`: what is the pretrained backbone of a run worth on a labelled set?"""

from __future__ import annotations

from statistics import fmean

from omegaconf import DictConfig

from ssl_zoo.compose.evaluation import evaluate_from


def run(cfg: DictConfig, choices: dict[str, str]) -> float | None:
    """Measure, print the table, and return what sweeps go by: the validation score of what was chosen, as a
    mean over draws and numbers of labels; None where nothing was chosen."""
    table = evaluate_from(cfg, choices)
    print(table)
    print(f"written to {table.folder}")
    chosen = (one.chosen_by for name, one in table.results if name == "pretrained")
    found = [value for value in chosen if value is not None]
    return fmean(found) if found else None
