"""SimMIM: draw what is hidden of an image, with one linear layer (Xie et al. 2022, arXiv:2111.09886).

Squares of several patches are hidden behind a learnt vector, before positions are added; the network reads
the whole image, and one linear layer draws each hidden patch (sections 3.2 to 3.5). With M the hidden pixels,
and channels standardised as the network reads them,

    L = 1 / (3 |M|) sum over M and channels of | head(network(left)) - x |

Squares are two patches wide in the paper, 32 pixels of 224, so that a hidden patch cannot be copied from its
neighbours. Pixels are not normalised within each patch, as MAE does.

Published training (ViT-B): AdamW, lr 1e-4 x batch / 512, a tenth of it from epoch 700 of 800, weight decay
0.05, clip 5, stochastic depth 0.1.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.heads import exact
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._masked import MaskedPatches
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.tokens import patchify, take
from ssl_zoo.views.blocks import units
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class SimMIM(MaskedPatches):
    """Args:
        backbone: a vision transformer.
        masked: share of the squares that is hidden; their number is rounded up.
        side: of a square, in patches.
        view: images to training crops; default: random resized crop of at least 67 % and flip.

    Raises:
        ValueError: the backbone is not a vision transformer, its patches do not make whole squares, or a
            share that hides nothing or all.
    """

    family = "masked"
    takes = ("vit",)
    unit = "mean absolute error of standardised pixels"

    def __init__(self, backbone: TokenBackbone, masked: float = 0.6, side: int = 2, view: View | None = None):
        super().__init__(backbone, masked, view, partial(crop_flip, scale=(0.67, 1.0)), side)
        self.draw = nn.Linear(backbone.dim, self.patch**2 * len(self.normalise.mean))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (B, C, H, W) -> hidden patches (B, K), and what is drawn there (B, K, p * p * C)."""
        noise = rand(len(x), self.places, device=x.device)
        at = units(noise, self.grid, self.side, self.count)
        return at, self.draw(self.code(x, at))

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        at, drawn = self.predict(x)
        target = take(patchify(self.normalise(x), self.patch), at)
        return Loss(exact(F.l1_loss)(drawn, target), {})

    def show(self, batch: Batch) -> Pictures:
        x = self.view(batch.x)
        at, drawn = self.predict(x)
        read = self.normalise(x)
        crop, full = self.restore(read), self.restore(painted(read, self.patch, at, drawn))
        left = painted(crop, self.patch, at, torch.full_like(drawn, 0.5))
        note = "A training crop, what is left of it, and what is drawn in the hidden squares."
        return Pictures(note, {"crop": crop, "left": left, "drawn": full})
