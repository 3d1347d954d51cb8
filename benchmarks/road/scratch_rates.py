"""Which learning rates belong on the grid of training from scratch: validation accuracy, seed 0, no test.

python benchmarks/road/scratch_rates.py cifar10-small random-vit labels-scratch 2e-4 6e-4 2e-3

takes a board of images, a line of it with random weights, one of its fine-tuning measures, and rates.
"""

import sys
from dataclasses import replace

import numpy as np
import torch

from ssl_zoo.compose import gate
from ssl_zoo.compose.boards import BoardComposer
from ssl_zoo.compose.evaluation import listed
from ssl_zoo.data.rows import Subset
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.leaderboard.find import find, recipe_of
from ssl_zoo.leaderboard.stages import first_overrides
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.labels import budget
from ssl_zoo.transfer.metrics import class_count, true_labels
from ssl_zoo.transfer.protocols import Task


def main(name: str, line: str, measure: str, *rates: str) -> None:
    torch.set_num_threads(1)
    board, composer = find(name), BoardComposer()
    cfg = composer.evaluation(board.evaluate_overrides(measure))
    data = Datasets(composer).get(cfg.data)
    protocol = floors.from_scratch(composer.build(cfg.protocol))
    first = composer.pretraining(first_overrides(board, recipe_of(board, line), 0), frozenset())
    make = gate.instantiate(first.backbone, _convert_="all", _partial_=True)
    train, validation = data.rows("train"), data.rows("validation")
    if cfg.validation_limit is not None:  # the rows that `evaluate` chooses on
        order = np.random.default_rng(0).permutation(len(validation))
        validation = Subset(validation, np.sort(order[: cfg.validation_limit]))
    y, classes = true_labels(train, "train"), class_count(train, validation)
    for labels in reversed(listed(cfg.labels)):
        draws = {0: budget(y, labels, 0)}
        task = Task(train, validation, draws, classes, cfg.metric, torch.device("cpu"))
        for rate in map(float, rates):
            fitted = replace(protocol, lrs=(rate,)).fit(floors.fresh(make, 0), task)
            print(f"{line} labels={labels} lr={rate:g}: {fitted.chosen[0]['validation']:.3f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
