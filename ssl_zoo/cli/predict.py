"""`ssl-zoo predict`: what a model tells of images or texts."""

from __future__ import annotations

import time
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from ssl_zoo.compose.predicting import predict_from
from ssl_zoo.compose.task_predicting import Told, where
from ssl_zoo.compose.task_tuning import score_line
from ssl_zoo.transfer.predictions import Prediction
from ssl_zoo.transfer.report import wilson


def run(cfg: DictConfig, choices: dict[str, str]) -> None:
    """Print the first predictions, how many there are of each class, and where all of them are."""
    began, shown = time.perf_counter(), 0

    def show(one: Any) -> None:
        nonlocal shown
        if shown < cfg.show:
            tqdm.write(line_of(one, cfg.text is None))  # above a bar that is being drawn
        shown += 1

    made = predict_from(cfg, choices, show)
    if shown > cfg.show:
        print(f"... and {shown - cfg.show:,} more")
    if isinstance(made, Told):
        if made.scores is not None:
            print(score_line("against what they are labelled", made.scores))
        if made.out is not None:
            print(f"{made.out}: {made.account.count:,} predictions ({time.perf_counter() - began:.1f} s)")
        return
    if shown > 1:
        print(", ".join(f"{count:,} {name}" for name, count in made.classes.most_common(20)))
    if made.right is not None:
        low, high = wilson(made.right / made.account.count, made.account.count)
        share = f"{100 * made.right / made.account.count:.1f} %"
        print(
            f"{made.right:,} of {made.account.count:,} are told as they are labelled: {share} "
            f"(95 %: {100 * low:.1f} to {100 * high:.1f})"
        )
    if made.out is not None:
        print(f"{made.out}: {made.account.count:,} predictions ({time.perf_counter() - began:.1f} s)")


def line_of(one: Any, named: bool) -> str:
    """What is told of a row, as a line for people; with its place, where it has one."""
    if isinstance(one, Prediction):
        return one.text() if named else f"{one.name}  {one.probability:.2f}"
    return f"{where(one)}  {one.text()}" if named else one.text()
