"""What the cases share: real data where SSL_ZOO_DATA names it, and the library's own recipes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from duel import Gate
from PIL import Image
from products import share
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Objective
from ssl_zoo.pretrain import Budget, Pretraining, PretrainingData, pretrain
from ssl_zoo.products import at_full_rate

REAL = bool(os.environ.get("SSL_ZOO_DATA"))
IMAGES = "cifar10" if REAL else "digits"
TEXT = "enwiki" if REAL else "stdlib"


@dataclass
class Recipe:
    """What a command line names, built."""

    objective: Objective
    rows: Rows
    optimizer: Callable[[Objective], Optimizer]
    batch_size: int
    settings: dict[str, Any]
    tokenizer: Tokenizer | None = None
    data: ImageData | TextData | None = None


def recipe(*words: str) -> Recipe:
    """The parts that `ssl-zoo pretrain WORDS` would train."""
    from hydra.utils import instantiate  # here, as the GPU's cases do without Hydra

    from ssl_zoo.compose.composition import build, plain

    cfg = build("pretrain", list(words))
    torch.manual_seed(0)
    data: ImageData | TextData = instantiate(cfg.data, _convert_="all")
    make = instantiate(cfg.backbone, _convert_="all", _partial_=True)
    tokenizer = None
    if isinstance(data, ImageData):
        backbone: Backbone = make()
    else:
        key = repr((plain(cfg.tokenizer), plain(cfg.data)))
        tokenizer = kept(key, lambda: instantiate(cfg.tokenizer, _convert_="all")(data.documents("train")))
        backbone = make(vocabulary=tokenizer.vocabulary)  # pyright: ignore[reportOptionalMemberAccess]
    objective = instantiate(cfg.objective, _convert_="all")(backbone)
    if isinstance(data, ImageData):
        rows: Rows = data.rows("pretrain")
    else:
        rows = data.rows("train", tokenizer, cfg.context, objective.layout, objective.lookahead)  # pyright: ignore
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    return Recipe(objective, rows, optimizer, cfg.batch_size, plain(cfg), tokenizer, data)


def scratch() -> Path:
    """Where what takes long to make is kept between the processes of a run, and between runs."""
    return Path(os.environ.get("SSL_ZOO_CACHE") or "~/.cache/ssl_zoo").expanduser() / "benchmarks"


def kept(key: str, make: Callable[[], Tokenizer]) -> Tokenizer:
    """A tokenizer is learned once, not in each side's process."""
    folder = scratch() / f"tokenizer-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not (folder / "vocabulary.json").exists():
        make().save(folder)
    return Tokenizer.load(folder)


Passing = Callable[[float], object]  # a gate, or what else is called with the units of each step


def gated(objective: Objective, gate: Passing, units: float) -> None:
    """Let every optimizer step of an objective pass through the gate, whoever trains it."""
    advance = objective.advance

    def passing(t: float) -> None:
        advance(t)
        gate(units)

    objective.advance = passing  # pyright: ignore[reportAttributeAccessIssue]


def train(parts: Recipe, gate: Passing, units: float, steps: int = 10**7, **trainer: Any) -> None:
    """The library's own trainer on a recipe, as `ssl-zoo pretrain` runs it; without `steps` for ever."""
    gated(parts.objective, gate, units)
    module = Pretraining(parts.objective, parts.optimizer, Budget(steps=steps))
    data = PretrainingData(parts.rows, parts.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        trainer = {"accelerator": "cpu", "devices": 1} | trainer
        pretrain(module, data, Path(folder, "run"), save_every=10**7, log_every=50, **trainer)


def loop(parts: Recipe, gate: Gate, units: float) -> None:
    """The same objective in a bare PyTorch loop."""
    gated(parts.objective, gate, units)
    data = PretrainingData(parts.rows, parts.batch_size)
    optimizer = parts.optimizer(parts.objective)
    with at_full_rate(torch.device("cpu")):
        for step in range(10**7):
            batch = parts.rows.read(data.plan.rows(step), data.plan.epoch(step))
            parts.objective(batch).value.backward()
            optimizer.step()
            optimizer.zero_grad()
            parts.objective.advance(0.0)


def step_of(parts: Recipe) -> Callable[[], object]:
    """One whole step, for `products.share`."""
    optimizer = parts.optimizer(parts.objective)
    batch = parts.rows.read(np.arange(parts.batch_size))

    def step() -> None:
        parts.objective(batch).value.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return step


def note_share(parts: Recipe, gate: Gate) -> None:
    """How much of our step the matrix products take by themselves, for the table."""
    with at_full_rate(torch.device("cpu")):
        gate.note(**share(step_of(parts), repeats=3))


def pictures(count: int, size: int) -> Tensor:
    """Real images, enlarged where they are smaller than `size`: uint8 (count, 3, size, size)."""
    rows = recipe("objective=rotation", "backbone=resnet_micro", f"data={IMAGES}").rows
    x = rows.read(np.arange(count)).x
    if x.shape[-1] == size:
        return x
    return F.interpolate(x.float(), (size, size), mode="bicubic").round_().clamp_(0, 255).to(torch.uint8)


def pil(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def forever(images: list[Image.Image]) -> Iterator[Image.Image]:
    while True:
        yield from images
