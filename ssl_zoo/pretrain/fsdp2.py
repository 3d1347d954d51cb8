"""`trainer=fsdp2`: Lightning's strategy for weights that the module divides, with checkpoints of parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.optim import Optimizer

from ssl_zoo.distributed import divided_as, world
from ssl_zoo.optim import Together
from ssl_zoo.pretrain.background import Background
from ssl_zoo.pretrain.checkpoint import CheckpointError, read_checkpoint
from ssl_zoo.pretrain.checkpoint_shards import OPTIMIZERS, WEIGHTS, read, shapes, write
from ssl_zoo.pretrain.module import Pretraining
from ssl_zoo.pretrain.sharding import load_whole


class FSDP2(ModelParallelStrategy):
    """Every process holds an equal part of weights, gradients and optimizer state (see `sharding`).

    For a Lightning Trainer of one's own: Trainer(strategy=FSDP2(), ...) around `Pretraining`. It takes CPUs
    too (gloo), to try it out. Any number of processes may have written what it goes on from, divided or not.

    Args:
        background: what writes checkpoints; None: this does, at once.

    Raises:
        ValueError: when training is set up, for optimizer=muon, whose steps need whole matrices.
    """

    def __init__(self, background: Background | None = None):
        super().__init__(tensor_parallel_size=1)
        self.background = background or Background()
        self.writers: Any = None  # a group of all processes

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup_optimizers(self, trainer) -> None:
        super().setup_optimizers(trainer)
        if any(isinstance(optimizer, Together) for optimizer in self.optimizers):
            raise ValueError(
                "optimizer=muon makes a step of whole matrices, and trainer=fsdp2 divides them: take "
                "optimizer=adamw, or trainer=ddp"
            )

    @property
    def module(self) -> Pretraining:
        found = self.lightning_module
        assert isinstance(found, Pretraining)
        return found

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return (optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer).state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath, storage_options: Any = None) -> None:
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.background.on and world() > 1 and self.writers is None:
            self.writers = dist.new_group(backend="gloo")  # what threads say does not mix with training
        self.background.do(partial(write, self.background.frozen(checkpoint), path, self.writers))

    def teardown(self) -> None:
        self.background.finish()
        super().teardown()

    def load_checkpoint(self, checkpoint_path, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(checkpoint_path)
        if path.is_file():  # of a run that was not divided
            return read_checkpoint(path)
        self.module.refuse_other_weights(shapes(path))
        weights = self.module.state_dict()
        parameters = [[p for group in one.param_groups for p in group["params"]] for one in self.optimizers]

        def divided(name: str, size: torch.Size, dtype: torch.dtype) -> Tensor:
            part, _, place = name.partition("/")
            if part == WEIGHTS:
                return torch.empty_like(weights[place])
            number, index, _ = place.split("/", 2)
            own = parameters[int(number)][int(index)]
            return torch.empty_like(own, dtype=dtype) if own.shape == size else torch.empty(size, dtype=dtype)

        try:
            return read(path, divided)
        except (OSError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        load_whole(self.module, checkpoint[WEIGHTS])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint[OPTIMIZERS], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            divided = {
                index: {
                    key: divided_as(value, parameters[index]) if isinstance(value, Tensor) else value
                    for key, value in own.items()
                }
                for index, own in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": divided})
