"""Jigsaw puzzles (Noroozi & Favaro 2016, arXiv:1603.09246): in which order are the tiles of an image?

Tiles go through the network each by itself; their features, side by side in the order of one of P
permutations, tell a head which it was. With f the pooled features, s(i) the permutation drawn for image i,

    L = mean_i CE(g(f(tile_i,s(i)(1)), ..., f(tile_i,s(i)(T))), s(i))

The P permutations are chosen once, each as far from those before it as can be (algorithm 1), and kept in
checkpoints. Against short cuts, tiles have gaps, lie anywhere in their cells, and are standardised each; the
paper also shows some images in grey, which a `view` can do, and moves colour channels by up to 2 pixels,
which is left out. As tiles do not see each other before the head, features are put in order instead of tiles.

Published training: SGD, lr 0.01, batches of 256, 350,000 steps.
"""

from __future__ import annotations

import functools
import math
from itertools import chain, permutations
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import classification
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pictures
from ssl_zoo.tokens import put, take
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.tiles import cut, joined, standardised, tile_side
from ssl_zoo.views.view import View


@functools.cache
def far_apart(tiles: int, count: int) -> Tensor:
    """Orders of tiles, each as far (Hamming) from those before it as can be on average: (count, tiles)."""
    every = np.fromiter(chain.from_iterable(permutations(range(tiles))), np.int8).reshape(-1, tiles)
    chosen = [int(np.random.default_rng(0).integers(len(every)))]
    distance = np.zeros(len(every), dtype=np.int64)  # summed over the chosen ones
    while len(chosen) < count:
        distance += (every != every[chosen[-1]]).sum(1)
        distance[chosen[-1]] = np.iinfo(np.int32).min
        chosen.append(int(distance.argmax()))
    return torch.from_numpy(every[chosen].astype(np.int64))


class Jigsaw(Objective[ImageBackbone]):
    """Args:
        backbone: any vision backbone. It reads tiles.
        grid: tiles along each side of an image, 2 or 3.
        permutations: P, of the (grid * grid)! that there are.
        tile: side of a tile in pixels; None: 64/75 of a cell, in whole patches of a vision transformer.
        width: of the head's inner layer.
        view: images to training crops, which are cut; default: random resized crop of at least 60 % and flip.

    Raises:
        ValueError: the backbone is not for images, another grid, more permutations than there are, or tiles
            that do not fit or cannot be read.
    """

    family = "pretext"
    unit = "nats"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"grid": 2, "permutations": 6, "width": 24}
    table: Tensor

    def __init__(
        self, backbone: ImageBackbone, grid: int = 3, permutations: int = 100, tile: int | None = None,
        width: int = 1024, view: View | None = None
    ):  # fmt: skip
        super().__init__(backbone)
        if grid not in (2, 3) or not 2 <= permutations <= math.factorial(grid * grid):
            raise ValueError(f"{grid=} must be 2 or 3, {permutations=} from 2 to (grid^2)!, 24 or 362,880")
        self.view, self.grid = view or crop_flip(backbone.image_size, scale=(0.6, 1.0)), grid
        self.tile = tile_side(backbone, self.view.size or backbone.image_size, grid, 64 / 75, tile)
        self.register_buffer("table", far_apart(grid * grid, permutations).clone())
        self.mix = nn.Linear(grid * grid * backbone.dim, width)
        self.classify = nn.Linear(width, permutations)

    def puzzle(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tiles of images in order (B, T, C, s, s), the number of a permutation (B,), and what the head makes
        of the tiles in that order (B, width)."""
        noise = rand(len(x), self.grid**2, 2, device=x.device)
        tiles = standardised(cut(self.view(x), noise, self.grid, self.tile))
        which = (rand(len(x), device=x.device) * len(self.table)).long().clamp_max(len(self.table) - 1)
        pooled = self.backbone(tiles).pooled.unflatten(0, (-1, len(x))).transpose(0, 1)  # (B, T, D)
        hidden = F.relu(self.mix(take(pooled, self.table[which]).flatten(1)))
        return tiles.unflatten(0, (-1, len(x))).transpose(0, 1), which, hidden

    def forward(self, batch: Batch) -> Loss:
        _, which, hidden = self.puzzle(batch.x)
        loss, accuracy = classification(hidden, self.classify.weight, self.classify.bias, which)
        return Loss(loss, {"accuracy": accuracy.detach()})

    def chance(self, rows: int) -> float:
        return math.log(len(self.table))

    def show(self, batch: Batch) -> Pictures:
        tiles, which, hidden = self.puzzle(batch.x)
        shown = take(tiles, self.table[which])
        solved = put(shown, self.table[self.classify(hidden).argmax(1)], shown)
        note = "The tiles of each image, as the network is given them, and as it puts them back."
        columns = {"tiles": tiles, "given": shown, "put back": solved}
        return Pictures(note, {title: joined(part, self.grid) for title, part in columns.items()})
