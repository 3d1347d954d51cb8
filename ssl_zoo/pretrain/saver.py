"""When checkpoints are written: every so many steps, at the end, and when asked to stop."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from ssl_zoo.distributed import rank
from ssl_zoo.pretrain.background import Background
from ssl_zoo.pretrain.callbacks import PerStep, interval, pretraining
from ssl_zoo.pretrain.checkpoint import CheckpointError, prune
from ssl_zoo.pretrain.module import Pretraining
from ssl_zoo.pretrain.saying import say
from ssl_zoo.pretrain.stopping import Stop


class Checkpoint(PerStep):
    """Saves every `every` steps (0: never), at the end, and when asked to stop; keeps the newest `keep`.

    The first of the callbacks: a signal is answered before anything else that belongs to a step.

    background: what writes them, for the trainer as well; None: they are written at once.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        keep: int = 2,
        stop: Stop | None = None,
        background: Background | None = None,
    ):
        if isinstance(keep, bool) or not isinstance(keep, int):
            raise ValueError(f"keep={keep!r} is no whole number of checkpoints; take at least 2")
        if keep < 2:
            raise ValueError(f"keep={keep}: with fewer than two, a damaged newest checkpoint loses the run")
        self.folder, self.every, self.keep = Path(folder), interval(every, "save_every"), keep
        self.stop, self.background = stop or Stop(), background or Background()
        self.saved = 0  # the step that was saved last, or resumed from

    def on_train_start(self, trainer, pl_module) -> None:
        self.saved = trainer.global_step
        if note := self.stop.listen(self.saved):
            say(note)

    def after_step(self, trainer, module) -> None:
        if self.due(trainer):
            self.save(trainer, module)
        self.answer(trainer, module)

    def answer(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Save and end training if a signal asked for it."""
        if self.stop.after(trainer.global_step, module.device):
            if trainer.global_step != self.saved:
                self.save(trainer, module)
            self.settle()
            say(f"{self.stop.name}: saved step {trainer.global_step:,}; the same command goes on from there")
            module.stopped = trainer.should_stop = True

    def on_train_end(self, trainer, pl_module) -> None:
        module = pretraining(pl_module)
        if trainer.global_step != self.saved:
            self.save(trainer, module)
        self.settle()  # the session before may have been killed when it should have
        if not module.stopped:
            self.stop.due = 0  # the last time to agree
            self.answer(trainer, module)
        self.stop.release()

    def on_exception(self, trainer, pl_module, exception) -> None:
        self.stop.release()
        try:
            self.background.finish()
        except CheckpointError as error:
            say(f"{error}")

    def save(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Write the checkpoint of this step; over a damaged one of the same step, where there is one."""
        module.check_finite(weights=True)
        if self.background.on:
            self.settle()
        path = self.folder / f"step-{trainer.global_step:012d}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        self.saved = trainer.global_step
        if not self.background.on:
            self.settle()

    def settle(self) -> None:
        """Wait for what is being written, and delete what it takes the place of."""
        self.background.finish()
        if rank() == 0:
            prune(self.folder, self.keep)
