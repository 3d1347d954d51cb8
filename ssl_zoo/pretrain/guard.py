"""Going on from weights that are worth keeping (init=RUN, backbone.pretrained=...), without losing them.

New heads know nothing, and their first gradients carry a trained backbone away from what it was (Kumar et al.
2022, "Fine-Tuning can Distort Pretrained Features", arXiv:2202.10054, train the head first for that reason).
Later a learning rate that is too large, or a collapse, does the same. So

- for the first `head_start` of training the backbone stands still, and only what is new learns;
- at each look of the monitor the features are compared with the best ones so far, those of the start among
  them; after `patience` looks in a row that are worse by `margin`, training stops;
- the best step is what is exported, whether training was stopped, broke, or came to its end.

The best weights are a part of each checkpoint: a run that is killed, resumed or pruned has them.

What it did on CIFAR-10 (resnet_micro, 100 steps of SimCLR, kNN on 2,000 validation rows, one seed):

    ssl-zoo pretrain experiment=cifar10_simclr init=RUN guard=knn budget.minutes=null budget.steps=100 \\
        batch_size=128 evaluate_every=10 guard.head_start=0 optimizer.lr=0.1

- from 200 steps of SimCLR, 30.7 %: at lr 0.1 the features have 26.0 % at the end; the guard stops after 30
  steps and exports the start. At lr 2e-3 they come to 33.1 % at step 70, which is exported, and to 32.6 % at
  the end. A head start of 0.2 leaves them fewer steps, and they come to 32.0 %.
- from a backbone trained with labels, 69.1 %: at lr 0.1, 22.9 % at the end (random weights have 20.9 %); at
  lr 2e-3, 59.9 %, and 62.2 % with a head start of 0.2. The guard exports the start.
- the effective rank fell from 89 to 8 and from 99 to 13 at lr 0.1, but to 92 alone where labels were
  forgotten at lr 2e-3: it sees collapse, and not forgetting.
"""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from ssl_zoo import hub
from ssl_zoo.distributed import world
from ssl_zoo.objectives._base import Objective
from ssl_zoo.pretrain.callbacks import PerStep, pretraining
from ssl_zoo.pretrain.module import NonFinite, Pretraining
from ssl_zoo.pretrain.saying import say
from ssl_zoo.pretrain.sharding import load_whole, whole_state
from ssl_zoo.pretrain.watch import Monitor

NAMES = {"knn": "kNN accuracy", "effective_rank": "effective rank"}


class Guard(PerStep):
    """Args:
        figure: what says that features are better or worse, on held-out rows: "knn", the accuracy of nearest
            neighbours; "effective_rank", which needs no labels; null: nothing does, and training never
            stops early.
        head_start: fraction of training for which the backbone stands still while new heads learn.
        margin: share of the best figure by which a look has to fall below it to count as worse.
        patience: looks in a row that are worse after which training stops; null: it does not stop.

    A high rank is no end in itself: it falls where features collapse, and among runs of one objective it
    goes with their accuracy (RankMe, Garrido et al. 2023, arXiv:2210.02885). So with "effective_rank" the
    last look that was not worse is exported, and with "knn" the best one.

    Raises:
        ValueError: a number out of range, or a figure that is not known.
    """

    def __init__(
        self,
        figure: Literal["knn", "effective_rank"] | None = "knn",
        head_start: float = 0.1,
        margin: float = 0.05,
        patience: int | None = 3,
    ):
        if figure is not None and figure not in NAMES:
            raise ValueError(f"guard.figure={figure} is not known; take {', '.join(NAMES)}, or null")
        if not 0 <= head_start < 1:
            raise ValueError(f"guard.head_start={head_start}: a fraction of training, from 0 to below 1")
        if not 0 <= margin < 1:
            raise ValueError(f"guard.margin={margin}: a share of the best figure, from 0 to below 1")
        if patience is not None and patience < 1:
            raise ValueError(f"guard.patience={patience}: looks in a row, 1 or more; null: never stop early")
        self.figure, self.head_start, self.margin, self.patience = figure, head_start, margin, patience
        self.monitor: Monitor | None = None
        self.still: list[tuple[Tensor, Tensor]] | None = None  # buffers, and what they are to hold
        self.looked = -1  # the step that was judged last
        self.start = self.best = self.now = 0.0  # the figure at the first look, the best one, and the last
        self.worse = 0  # looks in a row that were worse than the best
        self.kept = 0  # the step whose weights are kept
        self.found: dict[str, float] = {}  # all that the monitor saw then
        self.weights: dict[str, dict[str, Tensor]] = {}  # of the backbones that are exported, on the CPU
        self.broken = False  # whether training ended because the loss was not finite

    def watch(self, monitor: Monitor | None) -> None:
        """Say whose looks are judged.

        Raises:
            ValueError: nobody looks, or there are no labels for the figure.
        """
        if self.figure is None:
            return
        if monitor is None or not monitor.every:
            raise ValueError(
                f"guard.figure={self.figure} is looked at by the monitor, and there is none: it needs "
                "evaluate_every > 0, a validation split, and images or texts that are read one by one. "
                "guard=head_start does without"
            )
        if self.figure == "knn" and not monitor.labelled:
            raise ValueError(
                "guard.figure=knn needs labels of two classes or more in train and validation, and there are "
                "none: take guard=effective_rank, which needs no labels"
            )
        self.monitor = monitor

    @property
    def stops(self) -> bool:
        """Whether there were too many looks in a row that were worse."""
        return self.patience is not None and self.worse >= self.patience

    @property
    def last(self) -> dict[str, Any]:
        """For the summary: what was done, in words and figures, and what is known of the exported step."""
        if not self.weights:
            return {}
        figures = {"start": self.start, "best": self.best, "last": self.now}
        return self.found | {
            "guard": self.words(),
            **{f"guard/{self.figure} {name}": value for name, value in figures.items()},
            "guard/stopped": self.stops or self.broken,
            "exported_step": self.kept,
        }

    def words(self) -> str:
        """What was done, and what is exported."""
        did = f"stopped after {self.worse} looks in a row that were worse; " if self.stops else ""
        did = "stopped by a loss that was not finite; " if self.broken else did
        which = "the start" if not self.kept else f"step {self.kept:,}"
        last = f", and not that of step {self.looked:,}, {self.now:.4g}" if self.kept != self.looked else ""
        figure = f"{self.figure} {self.found[str(self.figure)]:.4g}"
        return f"{did}the backbone of {which} is exported, {figure}{last}"

    def on_train_start(self, trainer, pl_module) -> None:
        module, monitor, step = pretraining(pl_module), self.monitor, trainer.global_step
        if module.clock.fraction(step, module.device) < self.head_start:
            say(f"guard       the backbone stands still for the first {self.head_start:.0%} of training")
            models = (module.objective.backbone, module.objective.export()[hub.MAIN])
            self.still = [(buffer, buffer.clone()) for model in models for buffer in model.buffers()]
        if monitor is None:
            return
        how = f"stops after {self.patience} in a row" if self.patience else "does not stop for any"
        what = f"{NAMES[str(self.figure)]} on {len(monitor.held_out):,} held-out rows"
        say(
            f"guard       {what}, every {monitor.every:,} steps; {how} that are {self.margin:.0%} below the "
            "best, or more"
        )
        if step == 0:
            self.judge(trainer, module, monitor.untrained)
        elif self.looked < step and (self.looked < 0 or step % monitor.every == 0):
            # The checkpoint of this step was written before the look that was due.
            monitor.look(trainer, module)
            self.judge(trainer, module, monitor.last)
        trainer.should_stop = self.stops

    # New heads first

    def on_before_optimizer_step(self, trainer, pl_module, optimizer: Optimizer) -> None:
        """While the backbone stands still, drop its gradients and what its batch norms have gathered.

        Its parameters stay trainable, so that DistributedDataParallel and a compiled graph see one network
        from the first step to the last; without a gradient no optimizer moves, decays or remembers them. Its
        batch norms normalise with the batch, as they will when it learns.
        """
        if self.still is None:
            return
        module = pretraining(pl_module)
        if module.done >= self.head_start:
            self.still = None
            say(f"step {trainer.global_step:,}  guard: the backbone learns from here on")
            return
        for parameter in module.objective.backbone.parameters():
            parameter.grad = None
        for buffer, before in self.still:
            buffer.copy_(before)

    # Back to the best step

    def after_step(self, trainer: L.Trainer, module: Pretraining) -> None:
        monitor = self.monitor
        if monitor is not None and monitor.at == trainer.global_step != self.looked:
            self.judge(trainer, module, monitor.last)
            if self.stops:
                trainer.should_stop = True

    def on_train_end(self, trainer, pl_module) -> None:
        module = pretraining(pl_module)
        if self.monitor is None or module.stopped:
            return
        self.after_step(trainer, module)
        say(f"guard       {self.words()}")

    def judge(self, trainer: L.Trainer, module: Pretraining, values: dict[str, float]) -> None:
        """Compare a look with the best one, and keep the weights if they are the ones to export."""
        figure, step = str(self.figure), trainer.global_step
        told = torch.tensor(values[figure], dtype=torch.float32, device=module.device)
        if world() > 1:
            dist.broadcast(told, 0)  # a rounding error must not stop one process alone
        self.now, first = told.item(), self.looked < 0
        self.looked = step
        if first:
            self.start = self.best = self.now
        self.best = max(self.best, self.now)
        least = self.best * (1 - self.margin)
        self.worse = self.worse + 1 if self.now < least else 0
        if first or self.now >= (self.best if figure == "knn" else least):
            self.kept, self.found = step, {k: v for k, v in values.items() if k != "off_line"}
            self.weights = {name: whole_state(one) for name, one in module.objective.export().items()}
        elif self.worse:
            say(
                f"step {step:,}  guard: {figure} {self.now:.4g} is {1 - self.now / self.best:.0%} below the "
                f"best, {self.best:.4g}; look {self.worse} in a row"
                + (f" of {self.patience}, training stops" if self.stops else "")
            )

    def survives(self, error: NonFinite) -> bool:
        """Whether there are weights to export although training broke; says so."""
        self.broken = bool(self.weights)
        if self.broken:
            say(f"guard       {error}")
            say(f"guard       {self.words()}")
        return self.broken

    def restore(self, objective: Objective, step: int) -> None:
        """Give the backbones that are exported the weights that were kept, if they hold others after `step`.

        They do too where training broke in the next step: its forward pass has moved their batch norms.
        """
        if self.weights and (self.broken or self.kept != step):
            for name, one in objective.export().items():
                load_whole(one, self.weights[name])

    STATE = ("looked", "start", "best", "now", "worse", "kept", "found", "weights")

    def on_save_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        checkpoint["guard"] = {name: getattr(self, name) for name in self.STATE}

    def on_load_checkpoint(self, trainer, pl_module, checkpoint) -> None:
        for name, value in checkpoint.get("guard", {}).items():
            setattr(self, name, value)
