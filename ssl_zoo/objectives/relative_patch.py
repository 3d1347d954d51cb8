"""Relative patch location (Doersch et al. 2015, arXiv:1505.05192): which neighbour of a patch is another one?

The middle tile of a 3 x 3 grid and one of the eight around it go through the network each by itself, and a
head says which of the eight it was. With f the pooled features of tiles, g the head,

    L = mean_i mean_k CE(g(f(middle_i), f(tile_ik)), k)

All nine tiles of an image go through once and make eight pairs, so that the classes are even; the paper draws
pairs from a grid over each image. Against short cuts: gaps of half a tile, places that vary by a seventh of a
tile, and tiles that lose all colours but one (the paper puts noise a hundredth as strong into the others),
besides a standardisation of each tile, which is Noroozi & Favaro's.

Published training: SGD with batch norms without scale and shift, momentum 0.999, some 4 weeks on one GPU.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import classification
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Choices
from ssl_zoo.views.recipes import crop
from ssl_zoo.views.tiles import cut, one_channel, standardised, tile_side
from ssl_zoo.views.view import View

NAMES = ("above left", "above", "above right", "left", "right", "below left", "below", "below right")


class RelativePatch(Objective[ImageBackbone]):
    """Args:
        backbone: any vision backbone. It reads tiles, nine of an image.
        tile: their side in pixels; None: two thirds of a cell, in whole patches of a vision transformer.
        drop: share of the tiles that lose all colours but one.
        width: of the head's inner layer.
        view: images to training crops, which are cut; default: random resized crop of at least 60 %, not
            mirrored.

    Raises:
        ValueError: the backbone is not for images, or tiles that do not fit or cannot be read.
    """

    family = "pretext"
    unit = "nats"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 24}

    def __init__(
        self,
        backbone: ImageBackbone,
        tile: int | None = None,
        drop: float = 1.0,
        width: int = 512,
        view: View | None = None,
    ):
        super().__init__(backbone)
        if not 0 <= drop <= 1:
            raise ValueError(f"drop={drop}: the share of tiles that lose colours is in [0, 1]")
        self.view = view or crop(backbone.image_size, scale=(0.6, 1.0))
        self.tile = tile_side(backbone, self.view.size or backbone.image_size, 3, 2 / 3, tile)
        self.drop = drop
        self.mix, self.classify = nn.Linear(2 * backbone.dim, width), nn.Linear(width, len(NAMES))

    def tiles(self, x: Tensor) -> Tensor:
        """The nine tiles of images (B, C, H, W), one after the other: (9 * B, C, tile, tile)."""
        noise = rand(len(x), 9, 4, device=x.device)
        tiles = cut(self.view(x), noise[..., :2], 3, self.tile, play=2 * round(self.tile / 14))
        return standardised(one_channel(tiles, noise[..., 2:].transpose(0, 1).flatten(0, 1), self.drop))

    def read(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """What the head makes of the pairs (8 * B, width), and which each is (8 * B,)."""
        pooled = self.backbone(tiles).pooled.unflatten(0, (9, -1))  # (9, B, D)
        around = torch.cat([pooled[:4], pooled[5:]])  # (8, B, D)
        pairs = torch.cat([pooled[4:5].expand_as(around), around], 2).flatten(0, 1)
        which = torch.arange(len(NAMES), device=pairs.device).repeat_interleave(pooled.shape[1])
        return F.relu(self.mix(pairs)), which

    def forward(self, batch: Batch) -> Loss:
        hidden, which = self.read(self.tiles(batch.x))
        loss, accuracy = classification(hidden, self.classify.weight, self.classify.bias, which)
        return Loss(loss, {"accuracy": accuracy.detach()})

    def chance(self, rows: int) -> float:
        return math.log(len(NAMES))

    def show(self, batch: Batch) -> Choices:
        tiles = self.tiles(batch.x)
        hidden, which = self.read(tiles)
        p = self.classify(hidden).float().softmax(1)
        rows = torch.arange(len(batch.x), device=p.device)
        one = rows % len(NAMES) * len(rows) + rows  # another neighbour of each image
        grid = tiles.unflatten(0, (9, -1))
        second = torch.cat([grid[:4], grid[5:]]).flatten(0, 1)[one]
        pair = torch.cat([grid[4], torch.ones_like(second[..., :2]), second], 3)
        note = "The middle tile and another one of an image, and the probability given to each place of it."
        return Choices(note, pair, NAMES, p[one], which[one])
