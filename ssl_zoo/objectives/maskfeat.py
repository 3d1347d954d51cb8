"""MaskFeat: say how the hidden parts of an image change, and in which directions (Wei et al. 2022,
arXiv:2112.09133).

Blocks of patches are hidden behind a learnt vector, before positions are added; the network reads the whole
image, and one linear layer predicts the histograms of oriented gradients (HOG, ssl_zoo/hog.py) of the hidden
patches, for each channel of each of their cells. With M the hidden patches, and h_i all of i's histograms,

    L = mean over i in M and bins of (head(network(left))_i - h_i)^2

The histograms are those of the crop, computed before it is hidden. A cell's histogram has length 1, so that
contrast and brightness play no part. To say 0 of all costs 1/9, and less where cells are flat.

Published training (ViT-B): AdamW, lr 2e-4 x batch / 256, weight decay 0.05, gradients clipped at 0.02.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.heads import exact
from ssl_zoo.hog import edges, hog
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._masked import MaskedPatches
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.tokens import patchify, put, take, unpatchify
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class MaskFeat(MaskedPatches):
    """Args:
        backbone: a vision transformer.
        masked: share of the patches that is hidden.
        block: patches in a hidden rectangle at least; 16 of 14 x 14.
        cells: of a histogram, along the side of a patch: 2, of 8 pixels each, in a patch of 16.
        bins: directions of a histogram.
        view: images to training crops; default: random resized crop of at least 50 % and flip.

    Raises:
        ValueError: the backbone is not a vision transformer, patches do not divide into cells, there are no
            bins, blocks of no patch, or a share that hides nothing or all.
    """

    family = "masked"
    takes = ("vit",)
    unit = "mean squared error of histograms"

    def __init__(
        self,
        backbone: TokenBackbone,
        masked: float = 0.4,
        block: int = 16,
        cells: int = 2,
        bins: int = 9,
        view: View | None = None,
    ):
        super().__init__(backbone, masked, view, partial(crop_flip, scale=(0.5, 1.0)))
        if min(block, cells, bins) < 1 or self.patch % cells:
            raise ValueError(
                f"{block=}, {cells=}, {bins=}: each is 1 or more; cells divide a patch of {self.patch} pixels"
            )
        self.block, self.cells, self.bins = block, cells, bins
        self.tell = nn.Linear(backbone.dim, len(self.normalise.mean) * bins * cells**2)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (B, C, H, W) -> hidden patches (B, K); what is told of them (B, K, F); what is true of all
        (B, N, F), F = cells * cells * C * bins."""
        histograms = hog(self.normalise(x), self.patch // self.cells, self.bins).flatten(1, 2)
        at = self.in_blocks(x, self.block)
        return at, self.tell(self.code(x, at)), patchify(histograms, self.cells)

    def forward(self, batch: Batch) -> Loss:
        at, told, true = self.predict(self.view(batch.x))
        return Loss(exact(F.mse_loss)(told, take(true, at)), {})

    def show(self, batch: Batch) -> Pictures:
        x = self.view(batch.x)
        at, told, true = self.predict(x)
        left = painted(x, self.patch, at, x.new_full((*at.shape, x.shape[1] * self.patch**2), 0.5))
        size = [true.shape[-1] // self.cells**2, *(side * self.cells for side in self.grid)]
        drawn = [
            edges(unpatchify(one, self.cells, *size).unflatten(1, (-1, self.bins)))
            for one in (true, put(true, at, told.to(true.dtype)))
        ]
        note = (
            "A training crop, what is left of it, its histograms of gradients drawn as strokes along edges, "
            "and the same with those that are predicted of the hidden parts."
        )
        return Pictures(note, {"crop": x, "left": left, "edges": drawn[0], "predicted": drawn[1]})
