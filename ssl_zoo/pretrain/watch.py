"""What is watched besides the training loss: the loss on held-out rows, and the features themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import Rows, Subset
from ssl_zoo.data.windows import Windows
from ssl_zoo.distributed import rank, world
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.pretrain.callbacks import PerStep, interval, log, pretraining
from ssl_zoo.pretrain.module import Pretraining
from ssl_zoo.pretrain.saying import say
from ssl_zoo.transfer import knn
from ssl_zoo.transfer.diagnostics import spread
from ssl_zoo.transfer.features import extract, labels_of, move

CONSTANT = 1e-4  # feature_std of rounding errors


class Validation(PerStep):
    """The objective's loss on held-out rows, with the same noise each time; bits per byte for text.

    Args:
        rows: the validation split.
        every: steps between evaluations; one more is made at the end. 0 = never.
        batch_size: rows at once, over all processes.
        limit: at most this many rows; None = all of them.
    """

    def __init__(self, rows: Rows, every: int, batch_size: int, limit: int | None = None):
        if limit is not None and limit < 1:
            raise ValueError(f"validation_limit must be at least 1, or null for all rows, not {limit}")
        self.rows, self.every = rows, interval(every, "evaluate_every")
        self.batch_size, self.count = batch_size, min(len(rows), limit or len(rows))
        self.last: dict[str, float] = {}
        self.at = -1  # the step that was looked at last, in this session

    def after_step(self, trainer, module) -> None:
        if self.due(trainer) and not module.stopped:
            self.evaluate(trainer, module)

    def on_train_end(self, trainer, pl_module) -> None:
        module = pretraining(pl_module)
        if self.every and self.at != trainer.global_step and not module.stopped:
            self.evaluate(trainer, module)

    @torch.no_grad()
    def evaluate(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Log and show the loss on held-out rows, or say why there is none."""
        self.at = trainer.global_step
        if module.objective.whole_batch and min(self.batch_size, self.count) < 2:
            say(f"step {trainer.global_step:,}  no validation loss: one held-out row cannot be compared")
            return
        if "index" in module.objective.reads:
            say(f"step {trainer.global_step:,}  no validation loss: held-out rows have no number in training")
            return
        values = {k: v.item() for k, v in module.reading(lambda: self.losses(module)).items()}
        bytes_per_token = getattr(self.rows, "bytes_per_token", None)
        if "val/nats_per_token" in values and bytes_per_token:
            values["val/bits_per_byte"] = values["val/nats_per_token"] / math.log(2) / bytes_per_token
        self.last = values
        log(trainer, values)
        say(f"step {trainer.global_step:,}  " + "  ".join(f"{k} {v:.4f}" for k, v in values.items()))

    def losses(self, module: Pretraining) -> dict[str, Tensor]:
        """Means of the loss and its parts over held-out rows, by name (a collective call)."""
        objective, device = module.objective, module.device
        was = objective.training
        objective.eval()
        sums: dict[str, Tensor] = {}  # of (sum, weight)
        # Counted here: the other processes are not there yet when this callback is made.
        each = max(1, min(self.batch_size, self.count) // world())
        starts = range(0, self.count - each * world() + 1, each * world())
        edges = [(s + rank() * each, s + (rank() + 1) * each) for s in starts]
        if world() == 1 and edges and edges[-1][1] < self.count and not objective.whole_batch:
            edges.append((edges[-1][1], self.count))  # what is left over
        for number, (first, stop) in enumerate(edges):
            seed_noise(0, number, rank(), world())
            batch = self.rows.read(np.arange(first, stop))
            loss = objective(move(batch, device))
            for name, value in {"loss": loss.value, **loss.parts}.items():
                weight = loss.counts.get(name, torch.tensor(stop - first, device=device)).to(value.dtype)
                pair = torch.stack([value * weight, weight])
                sums[f"val/{name}"] = sums.get(f"val/{name}", 0) + pair
        free_noise()
        objective.train(was)
        if world() > 1:
            for pair in sums.values():
                dist.all_reduce(pair)
        return {name: total / weight.clamp_min(1) for name, (total, weight) in sums.items()}


class Monitor(PerStep):
    """Are the features alive, and are they of use?

    Reads them through the one `extract`, of the backbone that is exported, which may be a teacher's.

    - feature_std and effective_rank: see `transfer.diagnostics`.
    - knn: accuracy of k nearest neighbours on held-out rows, where there are labels of two classes or more.

    Looks once before training too: collapse (see `collapsed`) and the worth of pretraining are judged against
    the untrained network, whose figures are kept in the checkpoints.

    Args:
        train, held_out: labelled or unlabelled rows; which of them are read is chosen by seed 0.
        every: steps between looks; one more is made at the end. 0 = never.
        limit: rows read of each at most.
        k: nearest neighbours that vote.
    """

    def __init__(self, train: Rows, held_out: Rows, every: int, limit: int = 2000, k: int = 20):
        pick = np.random.default_rng(0)
        self.train, self.held_out = (Subset(rows, some(rows, limit, pick)) for rows in (train, held_out))
        self.every, self.k = interval(every, "evaluate_every"), k
        self.last: dict[str, float] = {}
        self.at = -1  # the step that was looked at last, in this session
        self.untrained: dict[str, float] = {}
        self.commonest = 1.0  # accuracy of always guessing the commonest class

    @property
    def labelled(self) -> bool:
        """Whether there are labels of two classes or more to look for."""
        train, held_out = self.train.y, self.held_out.y
        return train is not None and held_out is not None and len(np.unique(train)) > 1

    def on_train_start(self, trainer, pl_module) -> None:
        if self.every and trainer.global_step == 0:
            module = pretraining(pl_module)
            values, off_line = self.features(module)
            self.untrained = {**values, "off_line": off_line}

    def on_save_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        checkpoint["untrained"] = self.untrained

    def on_load_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        self.untrained = checkpoint.get("untrained", {})

    def after_step(self, trainer, module) -> None:
        if self.due(trainer) and not module.stopped:
            # Features of broken weights say less of what happened. At the end the saver has checked them.
            module.check_finite(weights=True)
            self.look(trainer, module)

    def on_train_end(self, trainer, pl_module) -> None:
        module = pretraining(pl_module)
        if not self.every or module.stopped:
            return
        if self.at != trainer.global_step:
            self.look(trainer, module)
        now, before = self.last.get("knn", 1.0), self.untrained.get("knn", 0.0)
        if now <= before:
            say(f"WARNING: kNN on the features ({now:.4g}) is no better than before training ({before:.4g})")

    def look(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Measure, log and show, and warn where the features have collapsed."""
        self.at = trainer.global_step
        self.last, off_line = self.features(module)
        log(trainer, {f"monitor/{name}": value for name, value in self.last.items()})
        line = "  ".join(f"{name} {value:.4g}" for name, value in self.last.items())
        # Of use all the same: more than half way from always guessing the commonest class to perfect.
        useful = self.last.get("knn", 0.0) > (1 + self.commonest) / 2
        if not useful and (how := collapsed(self.last["feature_std"], off_line, self.untrained)):
            line += f"  WARNING: the features have almost collapsed to one {how}"
        say(f"step {trainer.global_step:,}  {line}")

    def features(self, module: Pretraining) -> tuple[dict[str, float], float]:
        """What `measure` says of the backbone that is exported."""
        return module.reading(lambda: self.measure(module.objective.export()[hub.MAIN], module.device))

    def measure(self, backbone: Backbone, device: torch.device) -> tuple[dict[str, float], float]:
        """The figures of a backbone by name, and the share of its features' variance off one line."""
        held_out = extract(backbone, self.held_out, device=device)
        values = spread(held_out.pooled)
        train = extract(backbone, self.train, device=device)
        if self.labelled:
            known, y = labels_of(train), labels_of(held_out)
            classes = int(max(known.max(), y.max())) + 1
            self.commonest = y.bincount().max().item() / len(y)
            votes = knn.predict(held_out.pooled, train.pooled, known, classes, [self.k], [0.07])
            values["knn"] = (votes[self.k, 0.07] == y).float().mean().item()
        return values, off_one_line(held_out.pooled)


def some(rows: Rows, limit: int, pick: np.random.Generator) -> np.ndarray:
    """The numbers of so many rows, sorted: drawn, or, of rows in shards, the first ones of their order."""
    windows: Windows | None = getattr(rows, "windows", None)
    if windows is None:
        return np.sort(pick.permutation(len(rows))[:limit])
    return np.sort(windows.order(np.arange(min(limit, len(rows))), 0, 0))


def off_one_line(features: Tensor) -> float:
    """How much of the variance of features (N, D) is left when they are put on one line, where they fit best.

    On the unit sphere, where cosines are taken, a line is an arc, in a plane through the origin.
    """
    unit = F.normalize(features.float(), dim=1)
    variance = (unit - unit.mean(0)).square().sum().clamp_min(1e-30)
    return (torch.linalg.svdvals(unit)[2:].square().sum() / variance).item()


def collapsed(std: float, off_line: float, untrained: Mapping[str, float]) -> Literal["", "point", "line"]:
    """Whether features have become alike ("point"), or differ along one direction alone ("line").

    std: their `feature_std`, which is 1 at any width for features spread evenly. It is small for untrained
    networks too, whose features share a large mean (0.04 for a ResNet-50, 0.87 for a text transformer), and
    what is left is mostly on one line (85 % for that ResNet-50). So both are compared with the network's own
    before it was trained, where they are known: ten times closer, or five times narrower and 99 % on a line.
    """
    if std < max(0.1 * min(untrained.get("feature_std", 0.05), 0.2), CONSTANT):
        return "point"
    return "line" if off_line < min(0.01, 0.2 * untrained.get("off_line", 0.0)) else ""
