"""Rotation prediction: RotNet (Gidaris et al. 2018, eq. 2-3).

Each image is shown turned by 0, 90, 180 and 270 degrees, all four in one batch (the paper found this
better than one at random), and the network says which turn it sees: cross-entropy over four classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.heads import classification
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Choices
from ssl_zoo.views.image import rot90
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class Rotation(Objective[Backbone]):
    """Args:
        backbone: any vision backbone with square images. A batch of B images costs 4 B forward passes.
        view: images to training crops; default: random resized crop of at least 60 % and flip.

    Raises:
        ValueError: the backbone is not for images, or its images are not square.
    """

    family = "pretext"
    unit = "nats"
    takes = ("vit", "cnn")

    def __init__(self, backbone: Backbone, view: View | None = None):
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        high, wide = backbone.image_size
        if high != wide:
            raise ValueError(f"Rotation turns images by 90 degrees: they must be square, not {high}x{wide}")
        self.view = view or crop_flip(backbone.image_size, scale=(0.6, 1.0))
        self.classify = nn.Linear(backbone.dim, 4)

    def turned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """All four turns of every crop (4 B, C, H, W), and which it is (4 B,)."""
        x = self.view(batch.x)
        turn = torch.arange(4, device=x.device).repeat_interleave(len(x))
        return rot90(x.repeat(4, 1, 1, 1), turn), turn

    def forward(self, batch: Batch) -> Loss:
        turned, turn = self.turned(batch)
        pooled = self.backbone(turned).pooled  # (4 B, D)
        loss, accuracy = classification(pooled, self.classify.weight, self.classify.bias, turn)
        return Loss(loss, {"accuracy": accuracy.detach()})

    def chance(self, rows: int) -> float:
        return math.log(4)

    def show(self, batch: Batch) -> Choices:
        turned, turn = self.turned(batch)
        p = self.classify(self.backbone(turned).pooled).float().softmax(1)
        note = "Training crops in all four turns (counter-clockwise), and the probability given to each turn."
        return Choices(note, turned, ("0°", "90°", "180°", "270°"), p, turn)
