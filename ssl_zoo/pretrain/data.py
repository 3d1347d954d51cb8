"""Batches as Lightning takes them: the library's, which are a function of (seed, step), and your own."""

from __future__ import annotations

import warnings
from typing import Any

import lightning as L
from torch import Tensor

from ssl_zoo.data.pairs import PairRows
from ssl_zoo.data.plan import Parts, Plan, loader
from ssl_zoo.data.rows import DataError, Rows, everything
from ssl_zoo.data.workers import may_have_children
from ssl_zoo.distributed import rank, world
from ssl_zoo.objectives._base import Batch

RESIDENT = 2 * 2**30  # bytes of images that may live on the device


class PretrainingData(L.LightningDataModule):
    """Batches that are a pure function of (seed, step).

    Args:
        rows: what to train on.
        batch_size: rows per optimizer step, over all processes and accumulation steps.
        seed: decides which rows make which batch.
        accumulate: accumulation steps; must be the trainer's `accumulate_grad_batches`.
        workers: loader processes; the batches are the same for any number.

    Attributes:
        feed: the batches, and how long training waited for them.
        resident: all images (N, 3, H, W) where they live on the device; then only row numbers travel, and
            what belongs to the rows besides.
        numbered: whether batches carry the numbers of their rows; set when training is set up.

    Raises:
        DataError: when training is set up, the trainer accumulates another number of parts; when a checkpoint
            is loaded, it was trained on other rows, or in other batches.
    """

    def __init__(self, rows: Rows, batch_size: int, seed: int = 0, accumulate: int = 1, workers: int = 0):
        super().__init__()
        self.rows, self.seed, self.accumulate, self.workers = rows, seed, accumulate, workers
        self.plan = Plan(len(rows), batch_size, seed, getattr(rows, "windows", None))
        self.stop = 0  # parts to yield; set when training is set up
        self.resident: Tensor | None = None
        self.numbered = False

    def setup(self, stage: str | None = None) -> None:
        trainer = self.trainer
        assert trainer is not None
        if trainer.accumulate_grad_batches != self.accumulate:
            raise DataError(
                f"PretrainingData(accumulate={self.accumulate}) does not match the trainer's "
                f"accumulate_grad_batches={trainer.accumulate_grad_batches}"
            )
        device = trainer.strategy.root_device
        images = self.rows.first if isinstance(self.rows, PairRows) else self.rows
        if device.type == "cuda" and getattr(images, "nbytes", RESIDENT + 1) <= RESIDENT:
            self.resident = everything(images, device)

    def train_dataloader(self):
        trainer = self.trainer
        assert trainer is not None
        parts = Parts(
            self.rows, self.plan, self.accumulate, world(), rank(), self.resident is None, self.numbered
        )
        pin = trainer.strategy.root_device.type == "cuda"
        start = lambda: trainer.global_step * self.accumulate  # noqa: E731
        workers = self.workers
        if workers and not may_have_children():
            workers = 0
            warnings.warn(
                f"workers={self.workers}: this is a daemonic process, which may not start others; it reads "
                "the data itself, as with workers=0",
                stacklevel=2,
            )
        self.feed = loader(parts, start, self.stop, workers, pin)
        return self.feed

    def on_after_batch_transfer(self, batch: tuple[int, Batch], dataloader_idx: int) -> tuple[int, Batch]:
        if self.resident is None:
            return batch
        micro, rows = batch
        return micro, rows._replace(x=self.resident[rows.x])

    def state_dict(self) -> dict[str, Any]:
        return {"fingerprint": self.rows.fingerprint, "seed": self.seed, "batch_size": self.plan.batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        now = self.state_dict()
        changed = [f"{k}: {state_dict.get(k)} -> {now[k]}" for k in now if state_dict.get(k) != now[k]]
        if changed:
            raise DataError(
                "this checkpoint was trained on other batches, and going on would mix them: "
                + "; ".join(changed)
                + ". Restore the old settings, or start a new run (another run name)."
            )


def as_batch(given: Any) -> Batch:
    """What a loader of your own gives, as objectives read it.

    Args:
        given: a Batch; a tensor of images (B, C, H, W), uint8 or float in [0, 1], or of ids (B, T); or a
            tuple or list of such a tensor and, if there is a second one, labels (B,).

    Raises:
        DataError: anything else.
    """
    if isinstance(given, Batch):
        return given
    if isinstance(given, Tensor):
        return Batch(given)
    if (
        isinstance(given, (tuple, list))
        and 1 <= len(given) <= 2
        and all(isinstance(x, Tensor) for x in given)
    ):
        return Batch(given[0], y=given[1] if len(given) == 2 else None)
    held = ", ".join(type(x).__name__ for x in given) if isinstance(given, (tuple, list)) else ""
    raise DataError(
        f"the loader gives a {type(given).__name__}{f' of ({held})' if held else ''}, and an objective reads "
        "a tensor, (tensor, labels), or ssl_zoo.Batch(x=..., segments=..., y=..., index=..., other=...): "
        "give the DataLoader a collate_fn that makes one"
    )
