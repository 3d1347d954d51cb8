"""SparK: a masked autoencoder for convolutional networks (Tian et al. 2023, arXiv:2301.03580).

A share of the cells of a CNN's last map is hidden in the image. The network reads the other cells alone, as a
convolution of sparse points (ssl_zoo/sparse.py). A light decoder reads the maps of its stages, with a learnt
vector in hidden cells, and draws the image. As in MAE, with M the hidden cells, and n(x_i) the pixels of one,
normalised,

    L = mean over i in M of || decoder(maps)_i - n(x_i) ||^2 / (pixels and channels of a cell)

So the last map's cells have to be many: networks for small images need a stem of stride 1. Layers that
squeeze a map into one cell count hidden cells as 0, as in the authors' code.

Published training (ResNet-50): LAMB, lr 2e-4 x batch / 256, batch 4096, weight decay 0.04 rising to 0.2, clip
5, 1,600 epochs.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.sparse import MapDecoder, Visible, sparse
from ssl_zoo.tokens import denormalise, normalise, patchify, take
from ssl_zoo.views.blocks import hidden_count
from ssl_zoo.views.masks import random_split
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class SparK(Objective[ImageBackbone]):
    """Args:
        backbone: a CNN of convolutions and batch norms whose maps halve the image's size, as any ResNet's.
        masked: share of the last map's cells that is hidden; their number is rounded up.
        width: of the decoder at the last map; a multiple of how much smaller that is.
        view: images to training crops; default: random resized crop of at least 67 % and flip.

    Raises:
        ValueError: no such CNN, a width that cannot be halved as often, or a share that hides nothing or all.
    """

    family = "masked"
    takes = ("cnn",)
    unit = "mean squared error of normalised pixels"
    tiny: ClassVar[dict[str, Any]] = {"width": 16}

    def __init__(
        self, backbone: ImageBackbone, masked: float = 0.6, width: int = 512, view: View | None = None
    ):
        super().__init__(backbone)
        size, self.grid = backbone.image_size, backbone.grid(*backbone.image_size)
        self.patch = size[0] // self.grid[0]
        levels = self.patch.bit_length() - 1
        if 2**levels != self.patch or size != (self.grid[0] * self.patch, self.grid[1] * self.patch):
            raise ValueError(
                f"by doubling, {self.grid[0]}x{self.grid[1]} cells of the last map do not become "
                f"{size[0]}x{size[1]} pixels: take images of another size, or a ResNet"
            )
        self.places = self.grid[0] * self.grid[1]
        self.seen = self.places - hidden_count(masked, self.places)
        self.view = view or crop_flip(size, (0.67, 1.0))
        with torch.no_grad():
            mean = backbone.normalise.mean
            still = copy.deepcopy(backbone).eval()
            found = still(mean.new_zeros(1, len(mean), *size), layers="tokens").layers
        cells = {one.shape[1]: i for i, one in enumerate(found)}  # of each size, the last stage
        self.stages = [cells.get(self.places * 4**k) for k in range(levels)]
        dims = [None if i is None else found[i].shape[2] for i in self.stages]
        self.decode = MapDecoder(dims, width, len(mean))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (B, C, H, W) -> the hidden cells (B, K), and what is drawn there (B, K, p * p * C)."""
        seen, unseen = random_split(rand(len(x), self.places, device=x.device), self.seen)
        visible = Visible(seen, self.grid)
        with sparse(self.backbone, visible):
            found = self.backbone(x, layers="tokens").layers
        maps = [
            None if i is None else found[i].mT.unflatten(2, (self.grid[0] << k, self.grid[1] << k))
            for k, i in enumerate(self.stages)
        ]
        return unseen, take(patchify(self.decode(maps, visible), self.patch), unseen)

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        unseen, drawn = self.predict(x)
        true = take(patchify(self.backbone.normalise(x), self.patch), unseen)
        return Loss(exact(F.mse_loss)(drawn, normalise(true)), {})

    def chance(self, rows: int) -> float:
        return 1 - 1 / (self.patch**2 * len(self.backbone.normalise.mean))

    def show(self, batch: Batch) -> Pictures:
        x, read = self.view(batch.x), self.backbone.normalise
        unseen, drawn = self.predict(x)
        true = take(patchify(read(x), self.patch), unseen)
        left, full = (
            painted(read(x), self.patch, unseen, one) * read.std + read.mean
            for one in (torch.zeros_like(true), denormalise(drawn, true))
        )
        note = "A training crop, what is seen, and what is drawn: on the true cells' mean and deviation."
        return Pictures(note, {"crop": x, "seen": left, "drawn": full})
