"""What every callback shares, and the meter: what is about to happen, then loss and speed."""

from __future__ import annotations

import time
from typing import NamedTuple

import lightning as L
from tqdm import tqdm

from ssl_zoo.distributed import rank, world
from ssl_zoo.messages import heard
from ssl_zoo.norm import BatchNorm
from ssl_zoo.pace import Pace, left
from ssl_zoo.pretrain.budget import ENDLESS
from ssl_zoo.pretrain.module import Pretraining
from ssl_zoo.pretrain.saying import say


def log(trainer: L.Trainer, values: dict[str, float]) -> None:
    """Hand numbers to every logger, at the current step."""
    for logger in trainer.loggers:
        logger.log_metrics(values, trainer.global_step)


def pretraining(module: L.LightningModule) -> Pretraining:
    """The module as these callbacks know it."""
    assert isinstance(module, Pretraining)
    return module


def chance_of(module: Pretraining) -> float | None:
    """The loss of a network that tells nothing apart, where the objective knows it."""
    return module.objective.chance(module.data.plan.batch // module.data.accumulate)


def interval(every: int, name: str) -> int:
    """Steps between two of something; 0 = never. Raises ValueError for anything else."""
    if isinstance(every, bool) or not isinstance(every, int) or every < 0:
        raise ValueError(f"{name}={every}: a number of steps, or 0 for never")
    return every


class PerStep(L.Callback):
    """Calls `after_step` once per optimizer step, however many batches make one."""

    every: int

    def due(self, trainer: L.Trainer) -> bool:
        """Whether this is one of every `every` steps."""
        return self.every > 0 and trainer.global_step % self.every == 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        micro, _ = batch
        module = pretraining(pl_module)
        if (micro + 1) % module.data.accumulate == 0:
            self.after_step(trainer, module)

    def after_step(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Called after each optimizer step."""


class Since(NamedTuple):
    """Where a stretch of training began: step, time by the clock, and seconds that the feed had waited."""

    step: int
    time: float
    waited: float


class Meter(PerStep):
    """Says what is about to happen, then loss, speed and the time that is left; logs them `every` steps.

    A bar on a terminal; elsewhere a line soon after the start, one every ten seconds, and one of the last
    step. Logs loss and parts, learning rate, units per second and the percentage of time for which training
    stood still until its next batch had been read. every: 0 logs and says nothing.
    """

    def __init__(self, every: int = 50):
        self.every = interval(every, "log_every")

    def setup(self, trainer, pl_module, stage) -> None:
        pretraining(pl_module).metered = True

    def on_train_start(self, trainer, pl_module) -> None:
        module = pretraining(pl_module)
        data, objective = module.data, module.objective
        count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
        each = data.plan.batch // (world() * data.accumulate)
        total = module.clock.steps
        length = f"{module.budget.minutes:g} minutes" if total == ENDLESS else f"{total:,} steps"
        epochs = "" if total == ENDLESS else f" = {total / data.plan.steps_per_epoch:.2f} epochs"
        group = trainer.optimizers[0].param_groups[0]
        lines = [
            f"objective   {type(objective).__name__}, {count(objective):,} parameters",
            f"backbone    {type(objective.backbone).__name__}, {count(objective.backbone):,} parameters",
            f"data        {len(data.rows):,} rows of {data.rows.units_per_row} {data.rows.unit}",
            f"batch       {data.plan.batch} = {world()} processes x {data.accumulate} accumulated x {each}",
            f"optimizer   {type(trainer.optimizers[0]).__name__}, peak lr {group['base_lr']:g}, "
            f"weight decay {max(g.get('weight_decay', 0) for g in trainer.optimizers[0].param_groups):g}",
            f"length      {length}{epochs}, on {module.device}, {trainer.precision}"
            + (", weights divided (FSDP2)" if module.divided is not None else ""),
        ]
        if (chance := chance_of(module)) is not None:
            log(trainer, {"chance": chance})
            lines.append(f"chance      {chance:.4g} is the loss of a network that tells nothing apart")
        if trainer.global_step:
            lines.append(f"resuming    after step {trainer.global_step:,}")
        if note := module.extension():
            lines.append(f"schedule    {note}")
        for line in lines:
            say(line)
        normed = [
            module
            for module in (objective.backbone, objective)
            if any(isinstance(part, BatchNorm) for part in module.modules())
        ]
        if (objective.whole_batch or normed) and data.accumulate > 1:
            who, does = objective, "compares the samples of a batch"
            if not objective.whole_batch:
                who, does = normed[0], "has batch norm"
            say(
                f"note        {type(who).__name__} {does}: accumulation gives "
                f"{data.accumulate} batches of {each * world()}, not one of {data.plan.batch}"
            )
        self.bar = tqdm(
            total=None if total == ENDLESS else total,
            initial=trainer.global_step,
            disable=None if rank() == 0 and heard() is None else True,
            unit="step",
        )
        self.logged = self.shown = self.began = self.now(trainer, module)
        self.pace = Pace()

    def now(self, trainer: L.Trainer, module: Pretraining) -> Since:
        """A stretch that begins here."""
        return Since(trainer.global_step, time.perf_counter(), module.data.feed.waited)

    def after_step(self, trainer, module) -> None:
        self.bar.update(trainer.global_step - self.bar.n)
        if self.due(trainer):
            self.report(trainer, module)
        if self.every and (self.pace.due() or trainer.global_step == module.clock.steps):
            self.show(trainer, module)

    def on_train_end(self, trainer, pl_module) -> None:
        if self.every and self.shown.step < trainer.global_step:
            self.show(trainer, pretraining(pl_module))
        self.bar.close()

    def speeds(self, since: Since, now: Since, module: Pretraining) -> tuple[float, float]:
        """Units per second between two steps, and the percentage of the time that was spent waiting."""
        spent, steps = now.time - since.time, now.step - since.step
        units = steps * module.data.plan.batch * module.data.rows.units_per_row
        return units / spent, 100 * (now.waited - since.waited) / spent

    def report(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Log what became of the steps since the last report."""
        module.check_finite()
        now = self.now(trainer, module)
        speed, waiting = self.speeds(self.logged, now, module)
        values = {f"train/{name}": value.item() for name, value in module.loss.items()}
        values |= {
            "lr": module.lr,
            f"{module.data.rows.unit}_per_second": speed,
            "data_wait_percent": waiting,
        }
        log(trainer, values)
        self.logged = now

    def show(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Show what became of the steps since the last time, and how long the others will take."""
        now = self.now(trainer, module)
        speed, waiting = self.speeds(self.shown, now, module)
        told = "  ".join(f"{name} {value.item():.4g}" for name, value in module.loss.items())
        pace = f"{speed:,.0f} {module.data.rows.unit}/s"
        if waiting > 5:
            pace += (
                f"  waiting for data {waiting:.0f} % of the time (workers={module.data.workers}; try more)"
            )
        if (rest := self.rest(now, module)) > 0:
            pace += f"  {left(rest)}"
        if self.bar.disable:
            say(f"step {now.step:,}  {told}  lr {module.lr:.3g}  {pace}")
        else:
            self.bar.set_postfix_str(f"{told}  {pace}")
        self.shown = now

    def rest(self, now: Since, module: Pretraining) -> float:
        """Seconds that are left, by the clock, or at the pace of this session."""
        clock = module.clock
        if clock.limit is not None:
            return clock.limit - clock.elapsed()
        return (clock.steps - now.step) * (now.time - self.began.time) / (now.step - self.began.step)
