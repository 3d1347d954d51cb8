"""Which learning rates belong on the grid of training from scratch: validation accuracy, seed 0, no test.

python benchmarks/road/scratch_rates.py cifar10-small random-vit labels-scratch 2e-4 6e-4 2e-3

takes a board of images, a row of it with random weights, one of its fine-tuning measures, and learning rates.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from hydra.utils import instantiate

from ssl_zoo.compose.boards import BoardComposer
from ssl_zoo.compose.evaluation import listed
from ssl_zoo.data.rows import Subset
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.leaderboard.find import find, one_line
from ssl_zoo.leaderboard.stages import first_overrides
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.labels import budget
from ssl_zoo.transfer.metrics import class_count, true_labels
from ssl_zoo.transfer.protocols import Task


def main(name: str, row: str, measure: str, *rates: str) -> None:
    torch.set_num_threads(1)
    board = find(name)
    composer = BoardComposer()
    cfg = composer.evaluation(board.evaluate_overrides(measure))
    data = Datasets(composer).get(cfg.data)
    protocol = floors.from_scratch(instantiate(cfg.protocol, _convert_="all"))
    trunk = composer.pretraining(first_overrides(board, one_line(board, row), 0), frozenset()).backbone
    make = instantiate(trunk, _convert_="all", _partial_=True)
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
            print(f"{row} labels={labels} lr={rate:g}: {fitted.chosen[0]['validation']:.3f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
