"""An objective and its data as Lightning sees them."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_zoo.data.rows import refuse_lacking
from ssl_zoo.distributed import rank, world
from ssl_zoo.noise import free_noise, seed_model, seed_noise
from ssl_zoo.norm import over_all_processes
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.pretrain.budget import ENDLESS, Budget, Clock
from ssl_zoo.pretrain.checkpoint import CheckpointError
from ssl_zoo.pretrain.data import PretrainingData, as_batch
from ssl_zoo.pretrain.sharding import Everything, finite_everywhere, let_go, shard
from ssl_zoo.schedules import Schedule, constant, cosine
from ssl_zoo.views.view import View

T = TypeVar("T")


class NonFinite(RuntimeError):
    """The loss became NaN or infinite; says at which step and on which rows."""


@torch.no_grad()
def clip_each(gradients: list[Tensor], longest: float) -> None:
    """Scale each gradient that is longer to this length, in place (the code of DINO, Caron et al. 2021)."""
    if gradients:
        lengths = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
        factors = [(longest / (length + 1e-6)).clamp_max(1) for length in lengths]
        torch._foreach_mul_(gradients, factors)  # pyright: ignore[reportPrivateImportUsage]


class Pretraining(L.LightningModule):
    """Trains an objective; knows nothing of what the objective does.

    Batches come from PretrainingData, or from a loader of your own in a Lightning Trainer of your own, in
    which loggers, progress bars and callbacks see the loss as "train/loss", and its parts likewise.

    Args:
        objective: what to minimise.
        optimizer: objective -> optimizer whose groups carry `base_lr` (ssl_zoo.optim).
        budget: how long to train.
        schedule: fraction done -> factor on the learning rates.
        seed: with the step, decides all noise.
        decay: fraction done -> factor on the weight decay.
        clip: longest gradient of any one tensor of weights; longer ones are scaled to it. None: as long as
            they are. (`gradient_clip_val` of Lightning's Trainer is the length of all of them together.)

    Attributes:
        loss: the last loss and its parts by name, detached, on the device.
        stopped: whether a signal ended training before its budget did.
        done: fraction of training that is done.

    Raises:
        ValueError: a `clip` that is not positive.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Callable[[Objective], Optimizer],
        budget: Budget,
        schedule: Schedule | None = None,
        seed: int = 0,
        decay: Schedule | None = None,
        clip: float | None = None,
    ):
        super().__init__()
        if clip is not None and not clip > 0:
            raise ValueError(f"clip={clip}: the longest gradient of a tensor is a positive number, or null")
        self.objective, self.make_optimizer, self.budget = objective, optimizer, budget
        over_all_processes(objective)  # its heads; the library's backbones are built so
        self.schedule, self.decay, self.clip = schedule or cosine(), decay or constant(), clip
        self.seed = seed
        self.clock = Clock(budget, 0)
        self.loss: dict[str, Tensor] = {}
        self.lr = 0.0
        self.step_at_start = 0
        self.stopped = False
        self.done = 0.0
        self.metered = False  # whether a Meter logs loss and parts in its own rhythm
        self._divided: tuple[Everything, ...] = ()  # in a tuple: it is no module beside the objective
        self.exact = True  # whether batches are those of PretrainingData
        # Of the loss and its parts over the rows of this epoch; resumption does not start it anew.
        self.sums, self.rows_seen = dict[str, Tensor](), 0
        self.budget_before: Budget | None = None  # of the session that wrote the checkpoint
        self.register_buffer("first_bad", torch.tensor(-1), persistent=False)

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.make_optimizer(self.objective)
        for group in optimizer.param_groups:  # of an optimizer of your own
            group.setdefault("base_lr", group["lr"])
            if "weight_decay" in group:
                group.setdefault("base_decay", group["weight_decay"])
        return optimizer

    def configure_model(self) -> None:
        """Divide the weights, where the trainer's strategy asks for it (see `sharding`)."""
        if self._device_mesh is None or self.divided is not None:
            return
        # A CPU's autocast does not take norms whose weights are in bfloat16.
        half = self.trainer.precision == "bf16-mixed" and self._device_mesh.device_type == "cuda"
        self.trainer.precision_plugin.convert_module(self)
        self._divided = (shard(self.objective, self._device_mesh["data_parallel"], half),)

    @property
    def divided(self) -> Everything | None:
        """What the objective is used through where its weights are divided over processes; else None."""
        return self._divided[0] if self._divided else None

    def reading(self, do: Callable[[], T]) -> T:
        """What `do` gives, which reads weights and learns nothing (all processes have to call it)."""
        if self.divided is None:
            return do()
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            found = self.divided(do)
        let_go(self.divided)
        return found

    def setup(self, stage: str) -> None:
        self.exact = isinstance(getattr(self.trainer, "datamodule", None), PretrainingData)
        if not self.exact:
            return
        data = self.data
        refuse_lacking(self.objective, data.rows)
        data.numbered = "index" in self.objective.reads
        steps = self.budget.total_steps(data.plan, data.rows)
        spent = self.clock.spent
        self.clock = Clock(self.budget, steps)
        self.clock.spent = spent
        data.stop = steps * data.accumulate

    @property
    def data(self) -> PretrainingData:
        """The library's batches. Raises TypeError where they come from a loader of your own."""
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(data, PretrainingData):
            raise TypeError("these batches come from a loader of your own, and not from PretrainingData")
        return data

    def follow_loader(self) -> None:
        """Set the clock by a loader of your own, and say what it cannot promise.

        Raises:
            ValueError: a budget that it has no measure for.
        """
        trainer, given = self.trainer, self.budget.given()
        warnings.warn(
            "the batches come from a loader of your own, which decides which rows make which batch. That "
            "workers, processes, accumulated parts and interruptions change nothing is promised for "
            "ssl_zoo.pretrain.PretrainingData alone",
            stacklevel=2,
        )
        each = trainer.num_training_batches / trainer.accumulate_grad_batches  # inf: it has no length
        if {"samples", "tokens"} & set(given) or ("epochs" in given and math.isinf(each)):
            raise ValueError(
                f"{self.budget}: with a loader of your own take budget.steps or budget.minutes, or "
                "budget.epochs where the loader has a length"
            )
        if "epochs" in given:
            steps = max(1, round(given["epochs"] * math.ceil(each)))
        else:
            steps = int(given.get("steps", ENDLESS))
        spent, self.clock = self.clock.spent, Clock(self.budget, steps)
        self.clock.spent = spent
        most = trainer.estimated_stepping_batches  # -1: neither the trainer nor the loader has an end
        if 0 <= most < steps < ENDLESS:
            warnings.warn(
                f"the trainer ends after {most:,} steps, and {self.budget} is {steps:,}: learning rate and "
                "momentum will not come to their ends; raise max_epochs, or lower the budget",
                stacklevel=2,
            )

    def on_train_start(self) -> None:
        if not self.exact:
            self.follow_loader()
        if self.device.type == "cpu" and any(isinstance(part, View) for part in self.objective.modules()):
            from ssl_zoo.views.kernels import warm_up

            warm_up()  # before the clock starts
        self.clock.start()
        self.step_at_start = self.trainer.global_step
        self.done = self.clock.fraction(self.step_at_start, self.device)
        # A run of so many minutes that had them all does not take one step more at each resumption.
        if self.done >= 1:
            self.trainer.should_stop = True

    def extension(self) -> str | None:
        """What a budget other than the last session's does to the learning rate (a collective call)."""
        before, step = self.budget_before, self.trainer.global_step
        if before is None or before == self.budget:
            return None
        past = Clock(before, before.total_steps(self.data.plan, self.data.rows))
        past.spent = self.clock.spent
        was = self.schedule(past.fraction(max(step - 0.5, 0), self.device))
        now = self.clock.fraction(step + 0.5, self.device)
        if now >= 1:
            return None
        return (
            f"{before} -> {self.budget}: it now ends with the new budget, so the learning rate goes on at "
            f"{self.schedule(now):.2g} of its peak, and was at {was:.2g}"
        )

    def on_train_end(self) -> None:
        free_noise()  # what comes after training draws from torch's generator again

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        accumulate = self.trainer.accumulate_grad_batches
        if self.exact:
            micro, rows = batch
        else:
            micro = self.trainer.global_step * accumulate + batch_idx % accumulate
            rows = as_batch(batch)
        step, part = divmod(micro, accumulate)
        seed_noise(self.seed, step, part * world() + rank(), accumulate * world())
        seed_model(self.device, "model", self.seed, micro, rank())
        loss = self.loss_of(rows)
        self.watch(loss, micro)
        if not self.metered:
            self.tell(micro, len(rows.x))
        return loss.value

    def loss_of(self, rows: Batch) -> Loss:
        """The loss of a batch, whose gradient comes to whole weights or to divided ones."""
        if self.divided is None:
            return self.objective(rows)

        def both() -> tuple[Tensor, Loss]:
            loss = self.objective(rows)
            return loss.value, loss

        # FSDP looks for the tensor that gradients start from in tuples, not in a Loss.
        value, loss = self.divided(both)
        return dataclasses.replace(loss, value=value)

    def tell(self, micro: int, rows: int) -> None:
        """Show loss and parts to callbacks after each part of a step, and to loggers and bars every so often.

        `self.log` would do so too, and would cost 3 % of a small step: what it gathers is written here where
        it would end, in the dictionaries that the trainer shows.
        """
        trainer = self.trainer
        values = {f"train/{name}": value for name, value in self.loss.items()}
        trainer.callback_metrics.update(values)
        for name, value in values.items():
            self.sums[name] = value * rows + self.sums.get(name, 0.0)
        self.rows_seen += rows
        every: int = trainer.log_every_n_steps * trainer.accumulate_grad_batches  # pyright: ignore
        if every and (micro + 1) % every == 0:
            read = {name: value.item() for name, value in values.items()}
            trainer.progress_bar_metrics.update(read)
            trainer.logged_metrics.update(values)
            for logger in trainer.loggers:
                logger.log_metrics(read, trainer.global_step)

    def on_train_epoch_start(self) -> None:
        self.sums, self.rows_seen = dict[str, Tensor](), 0

    def on_train_epoch_end(self) -> None:
        """For callbacks that look at the end of an epoch: the mean over its rows, of this process."""
        means = {name: value / self.rows_seen for name, value in self.sums.items()}
        self.trainer.callback_metrics.update(means)

    def watch(self, loss: Loss, micro: int) -> None:
        """Keep the loss for the log, and note the first part that was not finite."""
        self.loss = {"loss": loss.value.detach(), **loss.parts}
        bad = ~torch.isfinite(loss.value.detach())
        first = torch.where((self.first_bad < 0) & bad, micro, self.first_bad)  # pyright: ignore
        self.first_bad = first
        if first.device.type == "cpu":  # reading it costs nothing: stop before the weights are touched
            self.check_finite()

    def check_finite(self, weights: bool = False) -> None:
        """Raises NonFinite if any loss so far was not finite, on any process (a collective call).

        weights: also if the weights are not, which a gradient that overflows under a finite loss makes them.
        """
        worst = self.first_bad
        if world() > 1:
            worst = worst.clone()  # pyright: ignore
            dist.all_reduce(worst, dist.ReduceOp.MAX)
        if (micro := int(worst)) < 0:  # pyright: ignore
            if weights:
                self.check_weights()
            return
        step = micro // self.trainer.accumulate_grad_batches
        shown = ""
        if self.exact:
            index = self.data.plan.rows(step)
            shown = ", rows " + ", ".join(map(str, index[:16])) + (", ..." if len(index) > 16 else "")
        parts = ", ".join(f"{k}={v.item():g}" for k, v in self.loss.items())
        raise NonFinite(
            f"the loss was not finite at step {step} (seed {self.seed}{shown}; last loss: {parts}). "
            "Nothing since the last checkpoint was saved. Lower optimizer.lr, clip gradients "
            "(trainer.gradient_clip_val=1), or use trainer.precision=32."
        )

    def check_weights(self) -> None:
        """Raise NonFinite, with their names, if weights are not finite."""
        names, weights = zip(*self.objective.named_parameters(), strict=True)
        fine = finite_everywhere(weights).tolist()
        bad = [name for name, whole in zip(names, fine, strict=True) if not whole]
        if not bad:
            return
        raise NonFinite(
            f"the loss is finite, but after step {self.trainer.global_step} these weights are not: "
            f"{', '.join(bad[:4])}{', ...' if len(bad) > 4 else ''}. Nothing since the last checkpoint was "
            "saved. Lower optimizer.lr, clip gradients (trainer.gradient_clip_val=1), or use "
            "trainer.precision=32."
        )

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        step = self.trainer.global_step
        # The middle of the step, so that neither the first nor the last one is at zero.
        done = self.clock.fraction(step + 0.5, self.device)
        factor, decay = self.schedule(done), self.decay(done)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * (1.0 if group.get("constant") else factor)
            if "base_decay" in group:
                group["weight_decay"] = group["base_decay"] * decay
        self.lr = optimizer.param_groups[0]["lr"]
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # `trainer.global_step` may not count this step yet. Teachers move here, before any callback
        # saves, so that a checkpoint holds student and teacher of the same step.
        self.done = self.clock.fraction(step + 1, self.device)
        self.objective.advance(self.done)
        if self.done >= 1:
            self.trainer.should_stop = True

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ) -> None:
        if self.clip is not None:
            clip_each([p.grad for p in self.objective.parameters() if p.grad is not None], self.clip)
        # Lightning refuses to clip for a fused optimizer in mixed precision, because that unscales gradients
        # in its step. In bfloat16 nothing is scaled.
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            clip = (
                nn.utils.clip_grad_value_ if gradient_clip_algorithm == "value" else nn.utils.clip_grad_norm_
            )
            clip(self.objective.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seconds"] = self.clock.elapsed()
        checkpoint["budget"] = self.budget.given()

    def refuse_other_weights(self, before: Mapping[str, tuple[int, ...]]) -> None:
        """Raise CheckpointError, with the first of them, if weights of these shapes are of another one."""
        now = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        differing = [key for key in sorted({*now, *before}) if now.get(key) != before.get(key)]
        if differing:
            first = differing[0]
            raise CheckpointError(
                f"this checkpoint is of another backbone or objective: {len(differing)} of {len(now)} "
                f"weights are not those of {type(self.objective).__name__} here (first {first}: "
                f"{before.get(first, 'none')} there, {now.get(first, 'none')} here). Restore the old "
                "settings or start a new run (another run name)."
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.refuse_other_weights({k: tuple(v.shape) for k, v in checkpoint["state_dict"].items()})
        self.clock.spent = checkpoint["seconds"]
        # Lightning converts to trainer.precision after it loads; float32 would cut weights in double short.
        self.trainer.precision_plugin.convert_module(self)
        if "budget" in checkpoint:
            self.budget_before = Budget(**checkpoint["budget"])
        if not self.exact:
            return
        # Lightning counts parts of steps, and remembers whether the last one was seen. Here a run goes on
        # from its number of steps, whatever its budget and accumulation are now.
        loop = checkpoint["loops"]["fit_loop"]
        parts = checkpoint["global_step"] * self.data.accumulate
        batches, epoch = loop["epoch_loop.batch_progress"], loop["epoch_progress"]
        batches["is_last_batch"] = False
        for count in ("current", "total"):
            batches[count] = {"ready": parts, "started": parts, "processed": parts, "completed": parts - 1}
            epoch[count] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
