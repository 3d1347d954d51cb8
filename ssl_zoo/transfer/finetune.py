"""Fine-tuning of the whole backbone with a linear head on the pooled features.

AdamW with learning rates that decay from the head towards the input (Clark et al. 2020, ELECTRA;
Bao et al. 2022, BEiT), warm-up and cosine, a fixed number of steps, the last step is what counts.
The head starts at zero, or at the linear probe (Kumar et al. 2022, "Fine-Tuning can Distort
Pretrained Features": LP-FT). A batch is a pure function of (seed, step).
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.flops import step_flops
from ssl_zoo.heads import classification
from ssl_zoo.noise import free_noise, seed_model, seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.optim import decays
from ssl_zoo.pace import Progress
from ssl_zoo.products import at_full_rate
from ssl_zoo.schedules import cosine
from ssl_zoo.transfer.features import extract, forward, prepare, trim

Precision = Literal["32-true", "bf16-mixed"]


class Tuned(NamedTuple):
    """What a run leaves and what it cost.

    Attributes:
        backbone, head: trained, on the CPU, in eval mode.
        flops: of all training steps (see `ssl_zoo.flops`).
        seconds: wall time of the training.
    """

    backbone: Backbone
    head: nn.Linear
    flops: float
    seconds: float

    def diverged(self) -> bool:
        """Whether any weight is not finite."""
        return not all(p.isfinite().all() for part in (self.backbone, self.head) for p in part.parameters())


def depths(backbone: Backbone) -> dict[str, int]:
    """How far each parameter is from the head: name -> exponent of the layer decay.

    With L blocks, block i (from 0) is at L - i; what is registered before the first block
    (embeddings, stem, class token) is at L + 1; all else (the final norm) is at 0. A parameter
    shared by several blocks counts for the first of them.
    """
    blocks = list(backbone.blocks())
    of_block: dict[int, int] = {}
    for i, block in enumerate(blocks):
        for parameter in block.parameters():
            of_block.setdefault(id(parameter), len(blocks) - i)
    found, before = {}, bool(of_block)
    for name, parameter in backbone.named_parameters():
        if id(parameter) in of_block:
            before = False
        found[name] = of_block.get(id(parameter), len(blocks) + 1 if before else 0)
    return found


def parameter_groups(
    backbone: Backbone, head: nn.Module, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """AdamW groups: lr * layer_decay ** depth, and weight decay where pretraining has it (`optim.decays`).

    Parameters that ask for no gradient (fixed position tables) are left out.

    Raises:
        ValueError: a backbone without anything to train.
    """
    trainable = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError(f"{type(backbone).__name__} is frozen: no parameter has requires_grad")
    at = depths(backbone)
    members = [(at[name], name, p) for name, p in trainable.items()]
    members += [(0, name, p) for name, p in head.named_parameters()]
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for depth, name, parameter in members:
        decay = decays(name, parameter)
        group = groups.setdefault(
            (depth, decay),
            {"params": [], "lr": lr * layer_decay**depth, "weight_decay": weight_decay if decay else 0.0},
        )
        group["params"].append(parameter)
    return list(groups.values())


class Steps:
    """The batches of one run: a stream of shuffled epochs, cut into equal batches.

    A batch never holds more rows than there are, and may cross from one epoch into the next.
    """

    def __init__(self, rows: Rows, batch_size: int, steps: int, seed: int):
        self.rows, self.steps, self.seed = rows, steps, seed
        self.batch_size = min(batch_size, len(rows))

    def __len__(self) -> int:
        return self.steps

    def index(self, step: int) -> np.ndarray:
        """The rows of one step."""
        n = len(self.rows)
        at = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        orders = {e: np.random.default_rng([self.seed, e]).permutation(n) for e in {*(at // n).tolist()}}
        return np.array([orders[position // n][position % n] for position in at.tolist()])

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.steps):
            yield trim(self.rows.read(self.index(step)))


class FineTuning(L.LightningModule):
    """One run. See `finetune` for the arguments."""

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Linear,
        optimizer: Callable[[], torch.optim.Optimizer],
        factor: Callable[[int], float],
        seed: int,
        dropout: float,
        augment: Callable[[Tensor], Tensor] | None,
        progress: Progress | None = None,
    ):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.optimizer, self.factor = optimizer, factor
        self.seed, self.dropout, self.augment, self.progress = seed, dropout, augment, progress
        self.elements = 0  # pixels or tokens that were read

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, step: int) -> Tensor:
        seed_noise(self.seed, step)
        seed_model(batch.x.device, "finetune", self.seed, step)
        x, segments = prepare(batch, self.backbone)
        self.elements += x.numel()
        if self.augment is not None and self.backbone.modality == "image":
            x = self.augment(x)
        assert batch.y is not None, "evaluate checks that rows have labels"
        loss = self.loss(Batch(x, segments, batch.y))
        if self.progress is not None:
            self.progress.step(loss)
        return loss

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of a batch that is ready for the backbone."""
        pooled = forward(self.backbone, batch).pooled
        assert batch.y is not None
        dropped = F.dropout(pooled, self.dropout)
        return classification(dropped, self.head.weight, self.head.bias, batch.y)[0]

    def flops(self, batch: Batch) -> float:
        """FLOPs of one step per pixel or token of `batch`, which lies on the CPU as the model does."""
        x, segments = prepare(batch, self.backbone)
        self.eval()  # batch statistics stay as they are
        spent = step_flops(lambda: self.loss(Batch(x, segments, batch.y)))
        self.zero_grad()
        self.train()
        return spent / x.numel()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Lightning's greetings and its advice on loaders, which does not apply: rows lie in memory."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "GPU available but not used")
            # Lightning 2.6 on torch 2.15, each time it is handed a loader.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)` is deprecated")
            warnings.filterwarnings("ignore", "MPS available but not used")
            yield
    finally:
        logger.setLevel(level)


def finetune(
    backbone: Backbone,
    rows: Rows,
    head: nn.Linear,
    *,
    lr: float,
    steps: int,
    batch_size: int,
    seed: int,
    weight_decay: float = 0.05,
    layer_decay: float = 0.75,
    warmup: float = 0.1,
    dropout: float = 0.0,
    augment: Callable[[Tensor], Tensor] | None = None,
    precision: Precision = "32-true",
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Tuned:
    """Copies of the backbone and the head after `steps` steps, on the CPU, in eval mode.

    Args:
        rows: labelled rows. head: where the head starts, (D -> C).
        lr: of the head; the backbone's are smaller by `layer_decay` to the power of `depths`.
        warmup: fraction of the steps. dropout: on the pooled features.
        augment: float images in [0, 1] -> the same (a view), drawing its noise from `noise.rand`;
            texts are left alone.
        precision: "bf16-mixed" for GPUs; CPUs are faster with "32-true".
        progress: is told of each step.

    The default random generator is left as it was. Gradients are clipped at norm 1.

    Raises:
        ValueError: no steps or rows in a batch, or a backbone without anything to train.
        DataError: one row a step, where batch norm has nothing else to average over.
    """
    if steps < 1 or batch_size < 1:
        raise ValueError(f"fine-tuning needs at least one step and one row, not {steps=} and {batch_size=}")
    device = torch.device(device)
    backbone, head = copy.deepcopy(backbone), copy.deepcopy(head)
    schedule = cosine(warmup)
    groups = parameter_groups(backbone, head, lr, weight_decay, layer_decay)
    run = FineTuning(
        backbone,
        head,
        lambda: torch.optim.AdamW(groups),
        # The middle of each step: neither the first nor the last has a learning rate of 0.
        lambda step: schedule(min(1.0, (step + 0.5) / steps)),
        seed,
        dropout,
        augment,
        progress,
    )
    run.train()
    cuda = [device.index or 0] if device.type == "cuda" else []
    with _quiet(), torch.random.fork_rng(cuda):
        trainer = L.Trainer(
            accelerator=device.type,
            devices=cuda or 1,
            precision=precision,
            max_epochs=1,
            gradient_clip_val=1.0,
            barebones=True,
        )
        batches = Steps(rows, batch_size, steps, seed)
        each = run.flops(trim(rows.read(batches.index(0))))
        began = time.perf_counter()
        try:
            with at_full_rate(device):
                trainer.fit(run, batches)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise DataError(
                f"batch norm cannot normalise the one row of a step ({batch_size=}, {len(rows)} labelled "
                "rows): take two or more of each, or a backbone without batch norm"
            ) from error
        finally:
            free_noise()
    seconds = time.perf_counter() - began
    return Tuned(backbone.cpu().eval(), head.cpu().eval(), each * run.elements, seconds)


def classify(tuned: Tuned, rows: Rows, *, device: torch.device | str) -> Tensor:
    """Predicted classes (N,) on the CPU."""
    with torch.no_grad():
        features = extract(tuned.backbone, rows, device=device)
        return tuned.head(features.pooled).argmax(1)
