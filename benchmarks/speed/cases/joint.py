"""Objectives that compare views of an image: DINO, BYOL and VICReg, against lightly's Lightning examples."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from duel import Case, Gate
from torch import nn

from cases.images import Pictures, against_lightly, fit, network
from cases.material import IMAGES, Recipe, recipe

DINO = ("experiment=cifar10_dino", f"data={IMAGES}")
BYOL = ("experiment=cifar10_byol", f"data={IMAGES}")
VICREG = ("experiment=cifar10_vicreg", f"data={IMAGES}")

MAKING = (
    "ours makes views in batches, keeps convolutions in channels_last and passes all views of a size through "
    "the network at once; lightly's example has PIL views, timm's default layout, and one view a forward pass"
)
LOGS = "Ours writes its logs; the example's are switched off"


def slow_copy(module: nn.Module) -> nn.Module:
    """A momentum encoder as the examples make one."""
    from lightly.models.utils import deactivate_requires_grad

    copied = copy.deepcopy(module)
    deactivate_requires_grad(copied)
    return copied


def lightly_dino(workers: int, gate: Gate) -> None:
    parts = recipe(*DINO)
    module, transform = dino_example(parts, *network(parts))
    fit(module, Pictures(parts.rows, transform), parts.batch_size, workers, gate)


def dino_example(
    parts: Recipe, backbone: nn.Module, width: int, local: tuple[float, float] = (0.1, 0.4), blur: float = 0.0
) -> tuple[Any, Any]:
    """The example's module on a network of so many features, and its transform with the recipe's crops.

    local: the share of an image that small crops take. blur: how often the second large view is blurred (the
    first one always is then, and small ones half of the time).
    """
    import pytorch_lightning as pl
    from lightly.loss import DINOLoss
    from lightly.models.modules import DINOProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import DINOTransform
    from lightly.utils.scheduler import cosine_schedule

    dino = parts.settings["objective"]
    head = partial(DINOProjectionHead, width, dino["width"], dino["bottleneck"], dino["prototypes"])

    class DINO_(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.student_backbone, self.student_head = backbone, head(freeze_last_layer=1)
            self.teacher_backbone, self.teacher_head = slow_copy(backbone), head()
            deactivate_requires_grad(self.teacher_head)
            self.criterion = DINOLoss(dino["prototypes"], warmup_teacher_temp_epochs=5)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            momentum = cosine_schedule(self.current_epoch, 10, 0.996, 1)
            update_momentum(self.student_backbone, self.teacher_backbone, m=momentum)
            update_momentum(self.student_head, self.teacher_head, m=momentum)
            views = batch[0]
            said = [self.teacher_head(self.teacher_backbone(view).flatten(start_dim=1)) for view in views[:2]]
            guess = [self.student_head(self.student_backbone(view).flatten(start_dim=1)) for view in views]
            return self.criterion(said, guess, epoch=self.current_epoch)

        def on_after_backward(self) -> None:
            self.student_head.cancel_last_layer_gradients(current_epoch=self.current_epoch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.001)

    views = dino["views"]
    transform = DINOTransform(
        global_crop_size=views["size"],
        global_crop_scale=(0.3, 1.0),
        local_crop_size=views["local"],
        local_crop_scale=local,
        n_local_views=views["count"],
        gaussian_blur=(1.0, blur, 0.5) if blur else (0.0, 0.0, 0.0),
    )
    return DINO_(), transform


def lightly_byol(workers: int, gate: Gate) -> None:
    import pytorch_lightning as pl
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import update_momentum
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from lightly.utils.scheduler import cosine_schedule

    parts = recipe(*BYOL)
    byol = parts.settings["objective"]

    class BYOL_(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, width = network(parts)
            self.projection_head = BYOLProjectionHead(width, byol["width"], byol["out"])
            self.prediction_head = BYOLPredictionHead(byol["out"], byol["width"], byol["out"])
            self.backbone_momentum = slow_copy(self.backbone)
            self.projection_head_momentum = slow_copy(self.projection_head)
            self.criterion = NegativeCosineSimilarity()

        def guess(self, x: torch.Tensor) -> torch.Tensor:
            return self.prediction_head(self.projection_head(self.backbone(x).flatten(start_dim=1)))

        def target(self, x: torch.Tensor) -> torch.Tensor:
            return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            momentum = cosine_schedule(self.current_epoch, 10, 0.996, 1)
            update_momentum(self.backbone, self.backbone_momentum, m=momentum)
            update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)
            x0, x1 = batch[0]
            p0, z0, p1, z1 = self.guess(x0), self.target(x0), self.guess(x1), self.target(x1)
            return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.06)

    size = byol["views"]["size"]
    transform = BYOLTransform(
        BYOLView1Transform(input_size=size, gaussian_blur=0.0),
        BYOLView2Transform(input_size=size, gaussian_blur=0.0),
    )
    fit(BYOL_(), Pictures(parts.rows, transform), parts.batch_size, workers, gate)


def lightly_vicreg(workers: int, gate: Gate) -> None:
    import pytorch_lightning as pl
    from lightly.loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead
    from lightly.transforms import VICRegTransform

    parts = recipe(*VICREG)
    vicreg = parts.settings["objective"]

    class VICReg_(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, width = network(parts)
            self.projection_head = VICRegProjectionHead(width, vicreg["width"], vicreg["out"], num_layers=3)
            self.criterion = VICRegLoss()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            z0, z1 = (self.projection_head(self.backbone(x).flatten(start_dim=1)) for x in batch[0])
            return self.criterion(z0, z1)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.06)

    transform = VICRegTransform(input_size=vicreg["views"]["size"], min_scale=0.2, gaussian_blur=0.0)
    fit(VICReg_(), Pictures(parts.rows, transform), parts.batch_size, workers, gate)


def dino() -> Case:
    return against_lightly(
        DINO,
        lightly_dino,
        title="DINO training, CIFAR-10, ResNet of 0.7 M parameters, 2 crops of 32 px and 4 of 16 px, 2 cores",
        bar=2.5,
        same="images, batch of 256, network (the same timm module), number, size and scale of the crops, "
        "their flip, jitter, grey and solarisation, no blur; three linear layers of the head and its widths, "
        "prototypes, centring, a teacher that sees the large crops, prototypes that stand still at first, no "
        "clipping; fp32",
        differs=f"{MAKING}, no batch norm in the head (ours has two there), weight-normed prototypes (ours "
        "normalises them itself), a teacher of momentum 0.996 and temperature 0.04 where ours has 0.9 and "
        f"0.03, crops resized bicubically, and plain Adam where ours has AdamW. {LOGS}",
    )


def byol() -> Case:
    return against_lightly(
        BYOL,
        lightly_byol,
        title="BYOL training, CIFAR-10, ResNet of 0.7 M parameters, 2 cores",
        bar=2.5,
        same="images, batch of 256, network (the same timm module), layers, widths and batch norms of "
        "projection and prediction, both views through both networks, crop, flip, jitter, grey and "
        "solarisation of the second view, no blur; fp32",
        differs=f"{MAKING}, a momentum of 0.996 where ours has 0.95, and plain SGD where ours has AdamW. "
        f"Ours also measures how far projections spread. {LOGS}",
    )


def vicreg() -> Case:
    return against_lightly(
        VICREG,
        lightly_vicreg,
        title="VICReg training, CIFAR-10, ResNet of 0.7 M parameters, 2 cores",
        bar=2.5,
        same="images, batch of 256, network (the same timm module), three linear layers and two batch norms "
        "of the projection and its widths, weights of the three terms, crop from a fifth, flip, jitter, grey "
        "and solarisation of both views, no blur; fp32",
        differs=f"{MAKING}, a bias in the last layer, which ours leaves out, and plain SGD where ours has "
        "AdamW. The example itself has two layers of 2048, crops from 0.08 and a blur in half of the views; "
        f"here it has our recipe's. {LOGS}",
    )


CASES = {"dino": dino, "byol": byol, "vicreg": vicreg}
