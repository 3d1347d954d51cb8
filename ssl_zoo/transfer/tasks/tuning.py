"""The training of all goals, of a linear head or of everything, and what is told afterwards.

Both choose on validation by the goal's own metric: the weight decay of the head, or the learning rate, over
the grids that classification has.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import DataError
from ssl_zoo.noise import free_noise, seed_model, seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.pace import Progress
from ssl_zoo.products import at_full_rate
from ssl_zoo.schedules import cosine
from ssl_zoo.transfer.features import evaluating, finite, forward, move, prepare
from ssl_zoo.transfer.protocols import Finetune, Linear
from ssl_zoo.transfer.tasks.goal import Examples, Goal, Score

BATCH = 32  # rows that are read at a time where nothing is trained


class Fit(NamedTuple):
    """What training leaves.

    Attributes:
        backbone, head: on the CPU, in eval mode.
        goal: with what validation chose of it.
        chosen: the setting of the grid that validation chose.
        scores: of validation, too hopeful as the choice was made by them.
    """

    backbone: Backbone
    head: nn.Module
    goal: Goal
    chosen: dict[str, Any]
    scores: dict[str, Score]


@torch.no_grad()
def points(
    backbone: Backbone, goal: Goal, rows: Examples, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the head reads (B, M, D) and the targets of each batch, in order, on the CPU.

    Raises:
        DataError: rows that do not fit the backbone, or features that are not finite.
    """
    with evaluating(backbone, device), at_full_rate(device):
        for start in range(0, len(rows), BATCH):
            batch = rows.read(np.arange(start, min(start + BATCH, len(rows))))
            x = goal.points(forward(backbone, move(batch, device))).float().cpu()
            finite(x.flatten(0, 1))
            assert batch.y is not None
            yield x, batch.y


@torch.no_grad()
def tell(
    backbone: Backbone, head: nn.Module, goal: Goal, rows: Examples, device: torch.device
) -> list[Tensor]:
    """The numbers (m, width) that the head gives for the points of each row, on the CPU."""
    told = []
    for x, y in points(backbone, goal, rows, device):
        told += goal.each(head(x), y)
    return told


class Truth(Sequence[Any]):
    """What is true of each row of these examples, one after the other; it is read when it is asked for."""

    def __init__(self, *parts: Examples):
        self.places = [(rows, i) for rows in parts for i in range(len(rows))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: Any) -> Any:
        rows, at = self.places[i]
        return rows.truth(at)


class Candidate(NamedTuple):
    """What one setting of the grid gives, and what is told of the validation rows with it."""

    backbone: Backbone
    head: nn.Module
    chosen: dict[str, Any]
    told: list[Tensor]


def best_of(candidates: Iterable[Candidate], goal: Goal, validation: Examples) -> Fit | None:
    """The first of the best by the goal's metric on validation; None where there is none."""
    best: tuple[float, Candidate, Goal] | None = None
    truth = Truth(validation)
    for one in candidates:
        settled = goal.settled(one.told, truth)
        value = settled.scores(one.told, truth, draws=0)[goal.metric].value
        if best is None or value > best[0]:
            best = value, one, settled
    if best is None:
        return None
    _, one, settled = best
    return Fit(one.backbone, one.head.eval(), settled, one.chosen, settled.scores(one.told, truth))


def fit(
    backbone: Backbone,
    goal: Goal,
    train: Examples,
    validation: Examples,
    protocol: Finetune | Linear,
    seed: int,
    device: torch.device,
) -> Fit:
    """Train as the protocol says; the backbone is left as it was.

    Raises:
        DataError: rows that do not fit the backbone, no target to learn from, or training that diverges with
            all learning rates.
        ValueError: settings that cannot be.
    """
    if isinstance(protocol, Linear):
        return fit_head(backbone, goal, train, validation, protocol.weight_decays, device)
    return fit_all(backbone, goal, train, validation, protocol, seed, device)


def fit_head(
    backbone: Backbone,
    goal: Goal,
    train: Examples,
    validation: Examples,
    decays: Sequence[float],
    device: torch.device,
) -> Fit:
    """A linear head on frozen features, read once; of equally good ones that with the strongest decay."""
    pairs = [goal.labelled(x, y) for x, y in points(backbone, goal, train, device)]
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    if not len(x):
        raise DataError("no point of the train rows has a target: there is nothing to learn from")
    held = [one for x_, y_ in points(backbone, goal, validation, device) for one in goal.each(x_, y_)]

    def candidates() -> Iterator[Candidate]:
        for decay, head in goal.path(x, y, decays):
            with torch.no_grad():
                told = [head(one) for one in held]
            yield Candidate(backbone, head, {"weight_decay": decay}, told)

    if (best := best_of(candidates(), goal, validation)) is None:
        raise ValueError("weight_decays is empty: give one or more")
    return best


def fit_all(
    backbone: Backbone,
    goal: Goal,
    train: Examples,
    validation: Examples,
    protocol: Finetune,
    seed: int,
    device: torch.device,
) -> Fit:
    """Everything is trained, with each learning rate, and the best one on validation is kept."""
    if not protocol.lrs:
        raise ValueError("fine-tuning needs learning rates to choose from, and lrs is empty")
    start = goal.head(backbone)
    if protocol.head_start == "probe" and isinstance(start, nn.Linear):
        start = fit_head(backbone, goal, train, validation, Linear().weight_decays, device).head

    def candidates() -> Iterator[Candidate]:
        for lr in protocol.lrs:
            model, head = train_once(backbone, start, goal, train, protocol, lr, seed, device, progress)
            if all(p.isfinite().all() for part in (model, head) for p in part.parameters()):
                yield Candidate(model, head, {"lr": lr}, tell(model, head, goal, validation, device))
            else:
                warnings.warn(f"fine-tuning diverged with lr={lr:g}, which is not chosen", stacklevel=2)

    with Progress(f"fine-tuning for {goal.task}", protocol.steps * len(protocol.lrs)) as progress:
        best = best_of(candidates(), goal, validation)
    if best is None:
        raise DataError(f"fine-tuning diverged with all of lrs={list(protocol.lrs)}: add a lower one")
    return best


def train_once(
    backbone: Backbone,
    head: nn.Module,
    goal: Goal,
    rows: Examples,
    how: Finetune,
    lr: float,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> tuple[Backbone, nn.Module]:
    """Trained copies, on the CPU, in eval mode. The default random generator is left as it was.

    The steps are those of `transfer.finetune`: AdamW with learning rates that decay towards the input,
    warm-up and cosine, gradients clipped at norm 1. Images are augmented where the target is of the whole.
    """
    from ssl_zoo.transfer.finetune import Steps, parameter_groups  # Lightning takes seconds to import

    if how.steps < 1 or how.batch_size < 2 or len(rows) < 2:
        raise DataError(
            f"fine-tuning takes a step and two rows at least, not {how.steps} steps of {how.batch_size} out "
            f"of {len(rows)} rows"
        )
    model, top = copy.deepcopy(backbone), copy.deepcopy(head)
    groups = parameter_groups(model, top, lr, how.weight_decay, how.layer_decay)
    model.to(device).train()
    top.to(device).train()
    optimizer, schedule = torch.optim.AdamW(groups), cosine(how.warmup)
    factor: Callable[[int], float] = lambda step: schedule(min(1.0, (step + 0.5) / how.steps))  # noqa: E731
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    weights = [p for group in groups for p in group["params"]]
    augment = how.augment if model.modality == "image" and goal.task != "masks" else None
    batches = Steps(rows, how.batch_size, how.steps, seed)  # pyright: ignore[reportArgumentType]
    cuda = [device.index or 0] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(cuda), at_full_rate(device):
            for step in range(how.steps):
                seed_noise(seed, step)
                seed_model(device, "finetune", seed, step)
                batch = move(rows.read(batches.index(step)), device)
                x, segments = prepare(batch, model)
                x = x if augment is None else augment(x)
                with torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bf16-mixed"):
                    found = goal.points(forward(model, Batch(x, segments)))
                    out = top(nn.functional.dropout(found, how.dropout))
                assert batch.y is not None
                loss = goal.loss(out, batch.y)
                loss.backward()
                progress.step(loss)
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                plan.step()
    finally:
        free_noise()
    return model.cpu().eval(), top.cpu().eval()
