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
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone
from ssl_zoo.heads import PatchDecoder, exact, grid_positions
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.tokens import denormalise, normalise, patchify, take
from ssl_zoo.views.masks import random_split
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class MAE(Objective[TokenBackbone]):
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
    position: Tensor

    def __init__(
        self,
        backbone: TokenBackbone,
        masked: float = 0.75,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
        view: View | None = None,
    ):
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        assert backbone.patch is not None
        high, wide = backbone.grid(*backbone.image_size)
        self.patch, self.keep = backbone.patch, round(high * wide * (1 - masked))
        if not 0 < self.keep < high * wide:
            raise ValueError(
                f"masked={masked} of {high * wide} patches keeps {self.keep}; both sides need at least one: "
                "change `masked`, or use smaller patches or larger images"
            )
        self.view = view or crop_flip(backbone.image_size)
        self.widen = nn.Linear(backbone.dim, width)
        self.blank = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("position", grid_positions(width, high, wide), persistent=False)
        self.decoder = PatchDecoder(width, depth, heads, 3 * backbone.patch**2)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (B, 3, H, W) -> the dropped patches (B, M), and what is drawn there (B, M, p * p * 3)."""
        backbone = self.backbone
        tokens = backbone.embed(x)  # (B, N, D)
        seen, unseen = random_split(rand(*tokens.shape[:2], device=x.device), self.keep)
        code = self.widen(backbone.encode(take(tokens, seen), seen).tokens)  # (B, keep, width)
        blank = self.blank.to(code.dtype).expand(len(x), unseen.shape[1], -1)
        order = torch.cat([seen, unseen], dim=1)
        return unseen, self.decoder(torch.cat([code, blank], dim=1) + self.position[order], self.keep)

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        unseen, drawn = self.predict(x)
        # Pixels in [0, 1]; the reference code standardises channels first, which the per-patch
        # normalisation undoes but for the ratio between channels.
        target = normalise(take(patchify(x, self.patch), unseen))
        return Loss(exact(F.mse_loss)(drawn, target), {})

    def chance(self, rows: int) -> float:
        numbers = 3 * self.patch**2
        return (numbers - 1) / numbers

    def show(self, batch: Batch) -> Pictures:
        x, patch = self.view(batch.x), self.patch
        unseen, drawn = self.predict(x)
        true = take(patchify(x, patch), unseen)
        seen = painted(x, patch, unseen, torch.full_like(true, 0.5))
        drawn = painted(x, patch, unseen, denormalise(drawn, true))
        note = (
            "A training crop, what is seen of it, and what is drawn: on the true patches' mean and deviation."
        )
        return Pictures(note, {"crop": x, "seen": seen, "drawn": drawn})
