"""Image pretraining: the library's trainer against lightly's Lightning examples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from duel import Case, Gate, Side
from PIL import Image
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from cases.material import IMAGES, Passing, Recipe, note_share, recipe, train
from ssl_zoo.data.rows import Rows

SIMCLR = ("experiment=cifar10_simclr", f"data={IMAGES}")
WORKERS = (0, 1, 2)
SGD = partial(torch.optim.SGD, lr=0.06)  # the example's


class Peer(Protocol):
    """A side that trains with so many loader workers."""

    def __call__(self, workers: int, gate: Gate) -> None: ...


def ours(words: tuple[str, ...], gate: Gate) -> None:
    parts = recipe(*words)
    note_share(parts, gate)
    train(parts, gate, parts.batch_size)


class Pictures(Dataset):
    """Pixels in memory, one PIL image at a time through a transform, as torchvision's CIFAR10 gives them."""

    def __init__(self, rows: Rows, transform: Any):
        self.pixels = rows.read(np.arange(len(rows))).x.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), 0


def fit(
    module: Any,
    images: Dataset,
    batch_size: int,
    workers: int,
    gate: Passing,
    collate: Any = None,
    **trainer: Any,
) -> None:
    """The examples' loader and trainer; nothing logged, saved or shown, which favours them."""
    import pytorch_lightning as pl

    class Passing(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            gate(batch_size)

    batches = DataLoader(
        images, batch_size, shuffle=True, drop_last=True, num_workers=workers, collate_fn=collate
    )
    pl.Trainer(
        max_epochs=10**6,
        devices=1,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        logger=False,
        callbacks=[Passing()],
        **({"accelerator": "cpu"} | trainer),
    ).fit(module, batches)


def network(parts: Recipe, layout: torch.memory_format = torch.contiguous_format) -> tuple[nn.Module, int]:
    """The timm module of a recipe's backbone, and the width of its features."""
    backbone = parts.objective.backbone
    return backbone.model.to(memory_format=layout), backbone.dim  # pyright: ignore


def against_lightly(
    words: tuple[str, ...],
    peer: Peer,
    *,
    title: str,
    bar: float,
    same: str,
    differs: str,
    example: str = "Lightning example",
    asides: dict[str, Side] | None = None,
) -> Case:
    """Our trainer on the recipe of these words, against a peer with each number of loader workers."""
    peers: dict[str, Side] = {f"lightly, {n} workers": partial(peer, n) for n in WORKERS}
    return Case(
        title=title,
        unit="images/s",
        against=f"lightly's {example}, best of 0, 1 and 2 workers",
        sides={"ssl_zoo": partial(ours, words), **peers, **(asides or {})},
        asides=tuple(asides or ()),
        bar=bar,
        same=same,
        differs=differs,
        threads=2,
        seconds=4.0,
        rounds=3,
    )


def simclr_example(
    parts: Recipe,
    layout: torch.memory_format = torch.contiguous_format,
    optimizer: Callable[..., Optimizer] = SGD,
) -> tuple[Any, Any]:
    """lightly's SimCLR as a module of Lightning around the recipe's network, and its transform."""
    import pytorch_lightning as pl
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    objective = parts.settings["objective"]

    class SimCLR(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, width = network(parts, layout)
            self.projection_head = SimCLRProjectionHead(width, objective["width"], objective["out"])
            self.criterion = NTXentLoss(temperature=objective["temperature"])

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            views = [view.contiguous(memory_format=layout) for view in batch[0]]
            z0, z1 = (self.projection_head(self.backbone(view).flatten(start_dim=1)) for view in views)
            return self.criterion(z0, z1)

        def configure_optimizers(self) -> Optimizer:
            return optimizer(self.parameters())

    return SimCLR(), SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)


def lightly_simclr(
    make: Callable[[], Recipe], layout: torch.memory_format, workers: int, gate: Gate, **trainer: Any
) -> None:
    parts = make()
    module, transform = simclr_example(parts, layout)
    fit(module, Pictures(parts.rows, transform), parts.batch_size, workers, gate, **trainer)


def simclr() -> Case:
    make = partial(recipe, *SIMCLR)
    return against_lightly(
        SIMCLR,
        partial(lightly_simclr, make, torch.contiguous_format),
        title="SimCLR training, CIFAR-10, ResNet of 0.7 M parameters, 2 cores",
        bar=1.5,
        same="images, batch of 256, network (the same timm module), widths of the projection, temperature, "
        "crop, flip, jitter, grey, no blur; fp32",
        differs="ours makes views in batches and keeps convolutions in channels_last; lightly's example has "
        "PIL views, timm's default layout, batch norm in the projection, one view a forward pass, and plain "
        "SGD where ours has AdamW. Ours writes its logs; the example's are switched off. The aside is the "
        "example in channels_last, which its documentation does not ask for",
        asides={"lightly, channels_last": partial(lightly_simclr, make, torch.channels_last, 0)},
    )


CASES = {"simclr": simclr}
