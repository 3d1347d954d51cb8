"""Image pretraining: the library's trainer against lightly's Lightning examples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import timm
import torch
from duel import Case, Gate, Side
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cases.material import IMAGES, Recipe, note_share, recipe, train

SIMCLR = ("experiment=cifar10_simclr", f"data={IMAGES}")
MAE = ("experiment=cifar10_mae", f"data={IMAGES}")
WORKERS = (0, 1, 2)


def ours(words: tuple[str, ...], gate: Gate) -> None:
    parts = recipe(*words)
    note_share(parts, gate)
    train(parts, gate, parts.batch_size)


class Pictures(Dataset):
    """Pixels in memory, one PIL image at a time through a transform, as torchvision's CIFAR10 gives them."""

    def __init__(self, parts: Recipe, transform: Any):
        self.pixels = parts.rows.read(np.arange(len(parts.rows))).x.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), 0


def fit(module: Any, parts: Recipe, transform: Any, workers: int, gate: Gate, **trainer: Any) -> None:
    """The examples' loader and trainer; nothing logged, saved or shown, which favours them."""
    import pytorch_lightning as pl

    class Passing(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            gate(parts.batch_size)

    batches = DataLoader(
        Pictures(parts, transform), parts.batch_size, shuffle=True, drop_last=True, num_workers=workers
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


def lightly_simclr(
    make: Callable[[], Recipe], workers: int, layout: torch.memory_format, gate: Gate, **trainer: Any
) -> None:
    import pytorch_lightning as pl
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    parts = make()
    objective = parts.settings["objective"]

    class SimCLR(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = parts.objective.backbone.model.to(memory_format=layout)  # pyright: ignore
            width = parts.objective.backbone.dim
            self.projection_head = SimCLRProjectionHead(width, objective["hidden"], objective["out"])
            self.criterion = NTXentLoss(temperature=objective["temperature"])

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            views = [view.contiguous(memory_format=layout) for view in batch[0]]
            z0, z1 = (self.projection_head(self.backbone(view).flatten(start_dim=1)) for view in views)
            return self.criterion(z0, z1)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.06)

    transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    fit(SimCLR(), parts, transform, workers, gate, **trainer)


def lightly_mae(workers: int, gate: Gate) -> None:
    import pytorch_lightning as pl
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
    from lightly.transforms import MAETransform

    parts = recipe(*MAE)
    mae, size = parts.settings["objective"], parts.settings["backbone"]
    vit = timm.create_model(
        size["name"],
        img_size=32,
        patch_size=size["patch_size"],
        embed_dim=size["embed_dim"],
        depth=size["depth"],
        num_heads=size["num_heads"],
        num_classes=0,
    )

    class MAE_(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.patch = vit.patch_embed.patch_size[0]
            self.backbone = MaskedVisionTransformerTIMM(vit=vit)
            self.length = self.backbone.sequence_length
            self.decoder_embed = nn.Linear(vit.embed_dim, mae["width"])
            self.decoder = MaskedVisionTransformerDecoderTIMM(
                num_patches=vit.patch_embed.num_patches,
                embed_dim=mae["width"],
                depth=mae["depth"],
                num_heads=mae["heads"],
                num_prefix_tokens=vit.num_prefix_tokens,
            )
            self.prediction_head = nn.Linear(mae["width"], self.patch**2 * 3)
            self.criterion = nn.MSELoss()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            images = batch[0][0]
            count = len(images)
            keep, masked = utils.random_token_mask(size=(count, self.length), mask_ratio=mae["masked"])
            code = self.decoder_embed(self.backbone.encode(images=images, idx_keep=keep))
            whole = utils.set_at_index(code.new_zeros(count, self.length, mae["width"]), keep, code)
            drawn = self.decoder(whole, idx_mask=masked)
            drawn = self.prediction_head(utils.get_at_index(drawn, masked))
            # The class token is position 0 of the sequence, and no patch.
            target = utils.get_at_index(utils.patchify(images, self.patch), masked - 1)
            return self.criterion(drawn, target)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1.5e-4)

    fit(MAE_(), parts, MAETransform(input_size=32), workers, gate)


def simclr() -> Case:
    make = partial(recipe, *SIMCLR)
    peers: dict[str, Side] = {
        f"lightly, {n} workers": partial(lightly_simclr, make, n, torch.contiguous_format) for n in WORKERS
    }
    aside = "lightly, channels_last"
    return Case(
        title="SimCLR training, CIFAR-10, ResNet of 0.7 M parameters, 2 cores",
        unit="images/s",
        against="lightly's Lightning example, best of 0, 1 and 2 workers",
        sides={
            "ssl_zoo": partial(ours, SIMCLR),
            **peers,
            aside: partial(lightly_simclr, make, 0, torch.channels_last),
        },
        asides=(aside,),
        bar=1.5,
        same="images, batch of 256, network (the same timm module), widths of the projection, temperature, "
        "crop, flip, jitter, grey, no blur; fp32",
        differs="ours makes views in batches and keeps convolutions in channels_last; lightly's example has "
        "PIL views, timm's default layout, batch norm in the projection, one view a forward pass, and plain "
        "SGD where ours has AdamW. Ours writes its logs; the example's are switched off. The aside is the "
        "example in channels_last, which its documentation does not ask for",
        threads=2,
        seconds=4.0,
        rounds=3,
    )


def mae() -> Case:
    return Case(
        title="MAE training, CIFAR-10, ViT of 1.2 M parameters with patches of 4, 2 cores",
        unit="images/s",
        against="lightly's Lightning example, best of 0, 1 and 2 workers",
        sides={
            "ssl_zoo": partial(ours, MAE),
            **{f"lightly, {n} workers": partial(lightly_mae, n) for n in WORKERS},
        },
        bar=1.3,
        same="images, batch of 256, timm ViT, decoder of the same width, depth and heads, 75 % masked, crops "
        "and flips; AdamW; fp32",
        differs="ours makes crops in batches, normalises the target within each patch, and its decoder does "
        "not see the class token; lightly's example crops PIL images and predicts pixels as they are. Ours "
        "writes its logs; the example's are switched off",
        threads=2,
        seconds=4.0,
        rounds=3,
    )


CASES = {"simclr": simclr, "mae": mae}
