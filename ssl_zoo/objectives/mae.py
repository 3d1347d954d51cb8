"""Masked autoencoder: MAE (He et al. 2022).

75 % of the patches are dropped before the encoder; a light decoder sees the code of the rest, a
learned blank for each dropped patch, and all positions, and predicts the pixels of the dropped ones,
normalised within each patch (§3, "Reconstruction target"):

    L = mean over dropped patches of || decoder(encoder(seen))_i - normalise(x_i) ||^2 / (p * p * 3)

Published training: AdamW, lr 1.5e-4 x batch / 256, weight decay 0.05, betas 0.9 and 0.95, batch 4096.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.decoders import PatchDecoder
from ssl_zoo.objectives._dropped import DroppedPatches
from ssl_zoo.views.view import View


class MAE(DroppedPatches):
    """Args:
        backbone: a vision transformer; a CNN cannot skip the patches it does not see.
        masked: fraction of patches dropped.
        width, depth, heads: the decoder's.
        view: images to training crops; default: the paper's random resized crop and flip.

    Raises:
        ValueError: the backbone is not a vision transformer, or too few patches would be left.
    """

    family = "masked"
    takes = ("vit",)
    unit = "mean squared error of normalised pixels"
    tiny: ClassVar[dict[str, Any]] = {"width": 16, "depth": 1, "heads": 2}

    def __init__(
        self,
        backbone: TokenBackbone,
        masked: float = 0.75,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
        view: View | None = None,
    ):
        super().__init__(backbone, masked, width, view)
        self.widen = nn.Linear(backbone.dim, width)
        self.blank = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder = PatchDecoder(width, depth, heads, 3 * self.patch**2)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens, seen, unseen = self.split(x)
        code = self.widen(self.backbone.encode(tokens, seen).tokens)  # (B, keep, width)
        blank = self.blank.to(code.dtype).expand(len(x), unseen.shape[1], -1)
        order = torch.cat([seen, unseen], dim=1)
        return unseen, self.decoder(torch.cat([code, blank], dim=1) + self.position[order], self.keep)
