"""Vision transformers that see a part of an image: MAE, SimMIM and I-JEPA, against what lightly has."""

from __future__ import annotations

import copy
from typing import Any

import timm
import torch
from duel import Case, Gate
from torch import nn
from torch.nn import functional as F

from cases.images import Pictures, against_lightly, fit
from cases.material import IMAGES, Recipe, recipe

MAE = ("experiment=cifar10_mae", f"data={IMAGES}")
SIMMIM = ("experiment=cifar10_simmim", f"data={IMAGES}")
IJEPA = ("experiment=cifar10_ijepa", f"data={IMAGES}")


def transformer(parts: Recipe, **more: Any) -> Any:
    """timm's vision transformer in the size of the recipe's, as lightly's modules take it."""
    size = parts.settings["backbone"]
    return timm.create_model(
        size["name"],
        img_size=32,
        patch_size=size["patch_size"],
        embed_dim=size["embed_dim"],
        depth=size["depth"],
        num_heads=size["num_heads"],
        num_classes=0,
        **more,
    )


def lightly_mae(workers: int, gate: Gate) -> None:
    import pytorch_lightning as pl
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
    from lightly.transforms import MAETransform

    parts = recipe(*MAE)
    mae, vit = parts.settings["objective"], transformer(parts)

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

    images = Pictures(parts.rows, MAETransform(input_size=32))
    fit(MAE_(), images, parts.batch_size, workers, gate)


def lightly_simmim(workers: int, gate: Gate) -> None:
    import pytorch_lightning as pl
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerTIMM
    from lightly.transforms import MAETransform

    parts = recipe(*SIMMIM)
    simmim, vit = parts.settings["objective"], transformer(parts)

    class SimMIM_(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.patch = vit.patch_embed.patch_size[0]
            self.backbone = MaskedVisionTransformerTIMM(vit=vit)
            self.length = self.backbone.sequence_length
            self.decoder = nn.Linear(vit.embed_dim, self.patch**2 * 3)
            self.criterion = nn.L1Loss()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            images = batch[0][0]
            size = (len(images), self.length)
            _, masked = utils.random_token_mask(size=size, mask_ratio=simmim["masked"])
            code = self.backbone.encode(images=images, idx_mask=masked)
            drawn = self.decoder(utils.get_at_index(code, masked))
            # The class token is position 0 of the sequence, and no patch.
            target = utils.get_at_index(utils.patchify(images, self.patch), masked - 1)
            return self.criterion(drawn, target)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1.5e-4)

    images = Pictures(parts.rows, MAETransform(input_size=32, min_scale=0.67))
    fit(SimMIM_(), images, parts.batch_size, workers, gate)


def lightly_ijepa(workers: int, gate: Gate) -> None:
    import pytorch_lightning as pl
    from lightly.data import IJEPAMaskCollator
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerTIMM
    from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM
    from lightly.transforms.ijepa_transform import IJEPATransform

    parts = recipe(*IJEPA)
    ijepa = parts.settings["objective"]
    # Masks number the patches from 0: there may be no class token before them.
    vit = transformer(parts, class_token=False, global_pool="avg")

    class IJEPA_(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = MaskedVisionTransformerTIMM(vit=vit)
            self.predictor = IJEPAPredictorTIMM(
                num_patches=vit.patch_embed.num_patches,
                depth=ijepa["depth"],
                mlp_dim=vit.embed_dim,
                predictor_embed_dim=ijepa["width"],
                num_heads=ijepa["heads"],
            )
            self.target_encoder = copy.deepcopy(self.encoder)
            self.criterion = nn.SmoothL1Loss()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            (images, _), context, targets = batch
            code = self.encoder.encode(images, idx_keep=context[0])
            drawn = self.predictor(code, context, targets)
            with torch.no_grad():
                whole = self.target_encoder.encode(images)
                whole = utils.apply_masks(F.layer_norm(whole, (whole.shape[-1],)), targets)
                whole = utils.repeat_interleave_batch(whole, len(images), repeat=len(context))
            return self.criterion(drawn, whole)

        def on_train_batch_end(self, *_: Any) -> None:
            utils.update_momentum(self.encoder, self.target_encoder, m=0.996)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW([*self.encoder.parameters(), *self.predictor.parameters()], lr=1.5e-4)

    collate = IJEPAMaskCollator(
        input_size=32,
        patch_size=vit.patch_embed.patch_size[0],
        enc_mask_scale=(0.85, 1.0),
        pred_mask_scale=(0.15, 0.2),
        aspect_ratio=(0.75, 1.5),
        npred=ijepa["targets"],
    )
    images = Pictures(parts.rows, IJEPATransform(input_size=32, min_scale=0.3))
    fit(IJEPA_(), images, parts.batch_size, workers, gate, collate)


def mae() -> Case:
    return against_lightly(
        MAE,
        lightly_mae,
        title="MAE training, CIFAR-10, ViT of 1.2 M parameters with patches of 4, 2 cores",
        bar=1.3,
        same="images, batch of 256, timm ViT, decoder of the same width, depth and heads, 75 % masked, crops "
        "and flips; AdamW; fp32",
        differs="ours makes crops in batches, normalises the target within each patch, and its decoder does "
        "not see the class token; lightly's example crops PIL images and predicts pixels as they are. Ours "
        "writes its logs; the example's are switched off",
    )


def simmim() -> Case:
    return against_lightly(
        SIMMIM,
        lightly_simmim,
        title="SimMIM training, CIFAR-10, ViT of 1.2 M parameters with patches of 4, 2 cores",
        bar=1.3,
        same="images, batch of 256, timm ViT that reads all places, 60 % of them masked, one linear layer "
        "that draws the masked patches, absolute error of standardised pixels, crops from 0.67 and flips; "
        "AdamW; fp32",
        differs="ours makes crops in batches and hides squares of 2 x 2 patches; lightly's example crops PIL "
        "images and hides single patches. The example itself hides 75 %, crops from 0.2 and has "
        "torchvision's ViT; here it has our recipe's numbers, and lightly's class around timm's. Ours writes "
        "its logs; the example's are switched off",
    )


def ijepa() -> Case:
    return against_lightly(
        IJEPA,
        lightly_ijepa,
        title="I-JEPA training, CIFAR-10, ViT of 1.2 M parameters with patches of 4, 2 cores",
        bar=1.3,
        example="I-JEPA parts (its example is a bare loop) in a Lightning module",
        same="images, batch of 256, timm ViT, predictor of the same width, depth and heads, 4 targets of 15 "
        "to 20 % of the image, a context of 85 to 100 % without them, teacher of the whole image, layer norm "
        "and smooth L1; AdamW; fp32",
        differs="ours makes crops and masks in batches; lightly crops and mirrors PIL images, and lays out "
        "masks image by image while it collates. It cuts every context of a batch to the shortest, a few of "
        "64 cells, where ours sees 22; that favours it. Its ViT has no class token, as its masks count from "
        "0. Its example has torchvision's ViT with a class token and 2 targets; here it has our recipe's "
        "numbers, and its parts for timm, whose target network follows by one call for all weights. Ours "
        "writes its logs; the example's are switched off",
    )


CASES = {"mae": mae, "simmim": simmim, "ijepa": ijepa}
