"""When checkpoints are written: every so many steps, at the end, and when asked to stop."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist

from ssl_zoo.distributed import rank, world
from ssl_zoo.pretrain.callbacks import PerStep, pretraining, say
from ssl_zoo.pretrain.checkpoint import prune
from ssl_zoo.pretrain.module import Pretraining


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
            self.save(trainer, pretraining(pl_module))

    def save(self, trainer: L.Trainer, module: Pretraining) -> None:
        """Write the checkpoint of this step; over a damaged one of the same step, where there is one."""
        module.check_finite(weights=True)
        path = self.folder / f"step-{trainer.global_step:012d}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        self.saved = trainer.global_step
        if rank() == 0:
            prune(self.folder, self.keep)
