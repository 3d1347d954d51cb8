"""What is watched and kept while an objective trains: speed, validation, features, checkpoints."""

from __future__ import annotations

import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from ssl_zoo.data.rows import Rows, Subset
from ssl_zoo.distributed import free_noise, rank, seed_noise, world
from ssl_zoo.objectives._base import Batch
from ssl_zoo.pretrain.budget import ENDLESS
from ssl_zoo.pretrain.checkpoint import prune
from ssl_zoo.pretrain.module import Pretraining
from ssl_zoo.transfer import knn
from ssl_zoo.transfer.features import extract


def log(trainer: L.Trainer, values: dict[str, float]) -> None:
    """Hand numbers to every logger, at the current step."""
    for logger in trainer.loggers:
        logger.log_metrics(values, trainer.global_step)


def say(text: str) -> None:
    """A line for people, above any progress bar; only the first process speaks."""
    if rank() == 0:
        tqdm.write(text)
        sys.stdout.flush()


class PerStep(L.Callback):
    """Calls `after_step` once per optimizer step, however many batches make one."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        micro, _ = batch
        if (micro + 1) % pl_module.data.accumulate == 0:
            self.after_step(trainer, pl_module)

    def after_step(self, trainer: L.Trainer, module: Pretraining) -> None: ...


class Meter(PerStep):
    """Prints what is about to happen, then the loss and the speed every `every` steps.

    A bar on a terminal, plain lines elsewhere. Logs loss and parts, learning rate, units per second and
    the percentage of time spent waiting for data.
    """

    def __init__(self, every: int = 50):
        self.every = every

    def on_train_start(self, trainer, pl_module) -> None:
        data, objective = pl_module.data, pl_module.objective
        count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
        each = data.plan.batch // (world() * data.accumulate)
        total = pl_module.clock.steps
        length = f"{pl_module.budget.minutes:g} minutes" if total == ENDLESS else f"{total:,} steps"
        epochs = "" if total == ENDLESS else f" = {total / data.plan.steps_per_epoch:.2f} epochs"
        group = trainer.optimizers[0].param_groups[0]
        lines = [
            f"objective   {type(objective).__name__}, {count(objective):,} parameters",
            f"backbone    {type(objective.backbone).__name__}, {count(objective.backbone):,} parameters",
            f"data        {len(data.rows):,} rows of {data.rows.units_per_row} {data.rows.unit}",
            f"batch       {data.plan.batch} = {world()} processes x {data.accumulate} accumulated x {each}",
            f"optimizer   {type(trainer.optimizers[0]).__name__}, peak lr {group['base_lr']:g}, "
            f"weight decay {max(g.get('weight_decay', 0) for g in trainer.optimizers[0].param_groups):g}",
            f"length      {length}{epochs}, on {pl_module.device}, {trainer.precision}",
        ]
        if trainer.global_step:
            lines.append(f"resuming    after step {trainer.global_step:,}")
        for line in lines:
            say(line)
        if objective.whole_batch and data.accumulate > 1:
            say(
                f"note        {type(objective).__name__} compares the samples of a batch: accumulation gives "
                f"{data.accumulate} batches of {each * world()}, not one of {data.plan.batch}"
            )
        self.bar = tqdm(
            total=None if total == ENDLESS else total,
            initial=trainer.global_step,
            disable=None if rank() == 0 else True,
            unit="step",
        )
        self.units, self.waited = 0, 0.0
        self.ended = self.since = time.perf_counter()
        self.at = trainer.global_step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.waited += time.perf_counter() - self.ended

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.ended = time.perf_counter()

    def after_step(self, trainer, module) -> None:
        self.bar.update(trainer.global_step - self.bar.n)
        if trainer.global_step % self.every == 0:
            self.report(trainer, module)

    def on_train_end(self, trainer, pl_module) -> None:
        self.bar.close()

    def report(self, trainer: L.Trainer, module: Pretraining) -> None:
        module.check_finite()
        now = time.perf_counter()
        spent, steps = now - self.since, trainer.global_step - self.at
        rows = module.data.rows
        speed = steps * module.data.plan.batch * rows.units_per_row / spent
        values = {f"train/{name}": value.item() for name, value in module.loss.items()}
        values |= {
            "lr": module.lr,
            f"{rows.unit}_per_second": speed,
            "data_wait_percent": 100 * self.waited / spent,
        }
        log(trainer, values)
        shown = "  ".join(f"{k.removeprefix('train/')} {v:.4g}" for k, v in values.items() if "/" in k)
        line = f"step {trainer.global_step:,}  {shown}  lr {module.lr:.3g}  {speed:,.0f} {rows.unit}/s"
        if values["data_wait_percent"] > 5:
            line += f"  waiting for data {values['data_wait_percent']:.0f} % (raise workers)"
        if self.bar.disable:
            say(line)
        else:
            self.bar.set_postfix_str(f"{shown}  {speed:,.0f} {rows.unit}/s")
        self.since, self.waited, self.at = now, 0.0, trainer.global_step


class Validation(PerStep):
    """The objective's loss on held-out rows, with the same noise each time; bits per byte for text.

    Args:
        rows: the validation split.
        every: steps between evaluations; one more is made at the end.
        batch_size: rows at once, over all processes.
        limit: at most this many rows; None = all of them.
    """

    def __init__(self, rows: Rows, every: int, batch_size: int, limit: int | None = None):
        self.rows, self.every = rows, every
        self.batch_size, self.count = batch_size, min(len(rows), limit or len(rows))
        self.last: dict[str, float] = {}

    def after_step(self, trainer, module) -> None:
        if trainer.global_step % self.every == 0:
            self.evaluate(trainer, module)

    def on_train_end(self, trainer, pl_module) -> None:
        if trainer.global_step % self.every:
            self.evaluate(trainer, pl_module)

    @torch.no_grad()
    def evaluate(self, trainer: L.Trainer, module: Pretraining) -> None:
        values = {k: v.item() for k, v in self.losses(module).items()}
        bytes_per_token = getattr(self.rows, "bytes_per_token", None)
        if "val/nats_per_token" in values and bytes_per_token:
            values["val/bits_per_byte"] = values["val/nats_per_token"] / math.log(2) / bytes_per_token
        self.last = values
        log(trainer, values)
        say(f"step {trainer.global_step:,}  " + "  ".join(f"{k} {v:.4f}" for k, v in values.items()))

    def losses(self, module: Pretraining) -> dict[str, Tensor]:
        objective, device = module.objective, module.device
        was = objective.training
        objective.eval()
        sums: dict[str, Tensor] = {}
        weight = 0
        # Counted here: the other processes are not there yet when this callback is made.
        each = max(1, min(self.batch_size, self.count) // world())
        starts = range(0, self.count - each * world() + 1, each * world())
        edges = [(s + rank() * each, s + (rank() + 1) * each) for s in starts]
        if world() == 1 and edges and edges[-1][1] < self.count and not objective.whole_batch:
            edges.append((edges[-1][1], self.count))  # what is left over
        for number, (first, stop) in enumerate(edges):
            seed_noise(0, number, rank(), world())
            batch = self.rows.read(np.arange(first, stop))
            loss = objective(Batch(*(v if v is None else v.to(device) for v in batch)))
            for name, value in {"loss": loss.value, **loss.parts}.items():
                sums[f"val/{name}"] = sums.get(f"val/{name}", 0) + value * (stop - first)
            weight += stop - first
        free_noise()
        objective.train(was)
        means = {name: value / weight for name, value in sums.items()}
        if world() > 1:
            for value in means.values():
                dist.all_reduce(value)
                value /= world()
        return means


class Monitor(PerStep):
    """Are the features alive, and are they of use? Reads them through the one `extract`.

    - feature_std: mean over dimensions of the std of the L2-normalised features, times sqrt(D): 1 for
      features spread evenly over the sphere, 0 for a collapse to one point.
    - effective_rank: exp of the entropy of the singular values (RankMe, Garrido et al. 2023).
    - knn: accuracy of 20 nearest neighbours on held-out rows, where there are labels.

    Args:
        train, held_out: labelled or unlabelled rows; at most `limit` of each are read, chosen by seed 0.
        every: steps between looks.
    """

    def __init__(self, train: Rows, held_out: Rows, every: int, limit: int = 2000, k: int = 20):
        pick = np.random.default_rng(0)
        self.train, self.held_out = (
            Subset(rows, np.sort(pick.permutation(len(rows))[:limit])) for rows in (train, held_out)
        )
        self.every, self.k = every, k
        self.last: dict[str, float] = {}

    def after_step(self, trainer, module) -> None:
        if trainer.global_step % self.every == 0:
            self.look(trainer, module)

    def on_train_end(self, trainer, pl_module) -> None:
        if trainer.global_step % self.every:
            self.look(trainer, pl_module)

    def look(self, trainer: L.Trainer, module: Pretraining) -> None:
        backbone = module.objective.backbone
        held_out = extract(backbone, self.held_out, device=module.device)
        self.last = spread(held_out.pooled)
        train = extract(backbone, self.train, device=module.device)
        if train.y is not None and held_out.y is not None:
            classes = int(max(train.y.max(), held_out.y.max())) + 1
            votes = knn.predict(held_out.pooled, train.pooled, train.y, classes, [self.k], [0.07])
            self.last["knn"] = (votes[self.k, 0.07] == held_out.y).float().mean().item()
        log(trainer, {f"monitor/{name}": value for name, value in self.last.items()})
        line = "  ".join(f"{name} {value:.4g}" for name, value in self.last.items())
        if self.last["feature_std"] < 0.1:
            line += "  WARNING: the features have almost collapsed to one point"
        say(f"step {trainer.global_step:,}  {line}")


def spread(features: Tensor) -> dict[str, float]:
    """feature_std and effective_rank of features (N, D)."""
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    std = unit.std(0).mean() * features.shape[1] ** 0.5
    singular = torch.linalg.svdvals(unit)
    share = singular / singular.sum()
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {"feature_std": std.item(), "effective_rank": entropy.exp().item()}


class Checkpoint(PerStep):
    """Saves every `every` steps, at the end, and when asked to stop (SIGTERM); keeps the newest `keep`."""

    def __init__(self, folder: Path, every: int, keep: int = 2):
        if keep < 2:
            raise ValueError(f"keep={keep}: with fewer than two, a damaged newest checkpoint loses the run")
        self.folder, self.every, self.keep = Path(folder), every, keep
        self.asked = False
        self.saved = 0  # the step that was saved last, or resumed from

    def on_train_start(self, trainer, pl_module) -> None:
        self.saved = trainer.global_step

        # Over Lightning's own handler, which neither saves nor agrees between processes.
        def ask(*_: Any) -> None:
            self.asked = True

        self.before = signal.signal(signal.SIGTERM, ask)

    def after_step(self, trainer, module) -> None:
        stop = self.stop_agreed(trainer, module)
        if stop or trainer.global_step % self.every == 0:
            self.save(trainer, module)
        if stop:
            say(f"SIGTERM: saved step {trainer.global_step:,}; go on with resume=auto")
            trainer.should_stop = True

    def stop_agreed(self, trainer: L.Trainer, module: Pretraining) -> bool:
        if world() == 1:
            return self.asked
        if trainer.global_step % 10:  # processes must agree, which costs a message
            return False
        asked = torch.tensor(int(self.asked), device=module.device)
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        self.asked = bool(asked)
        return self.asked

    def on_train_end(self, trainer, pl_module) -> None:
        signal.signal(signal.SIGTERM, self.before)
        if trainer.global_step != self.saved:
            self.save(trainer, pl_module)

    def save(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Write the checkpoint of this step; over a damaged one of the same step, where there is one."""
        module.check_finite(weights=True)
        path = self.folder / f"step-{trainer.global_step:012d}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        self.saved = trainer.global_step
        if rank() == 0:
            prune(self.folder, self.keep)
