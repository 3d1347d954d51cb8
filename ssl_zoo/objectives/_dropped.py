"""What objectives share that drop patches of an image before a vision transformer, and draw their pixels."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone
from ssl_zoo.decoders import grid_positions
from ssl_zoo.heads import exact
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.tokens import denormalise, normalise, patchify, take
from ssl_zoo.views.masks import random_split
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class DroppedPatches(Objective[TokenBackbone]):
    """The loss is the mean squared error of pixels, normalised within each patch (MAE, section 3).

    Args:
        backbone: a vision transformer; a CNN cannot skip the patches it does not see.
        masked: fraction of patches dropped.
        width: of a decoder, for which `position` (N, width) holds places.
        view: images to training crops; default: MAE's random resized crop and flip.

    Raises:
        ValueError: the backbone is not a vision transformer, or too few patches would be left.
    """

    position: Tensor

    def __init__(self, backbone: TokenBackbone, masked: float, width: int, view: View | None):
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
        self.register_buffer("position", grid_positions(width, high, wide), persistent=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of crops: embeddings of what is seen (B, keep, D), its places, and those of the rest (B, M)."""
        tokens = self.backbone.embed(x)  # (B, N, D)
        seen, unseen = random_split(rand(*tokens.shape[:2], device=x.device), self.keep)
        return take(tokens, seen), seen, unseen

    @abstractmethod
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Crops (B, 3, H, W) -> the dropped patches (B, M), and what is drawn in the first K of them, as
        normalised pixels (B, K, p * p * 3)."""

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        unseen, drawn = self.predict(x)
        # Pixels in [0, 1]; the reference code standardises channels first, which the per-patch
        # normalisation undoes but for the ratio between channels.
        target = normalise(take(patchify(x, self.patch), unseen[:, : drawn.shape[1]]))
        return Loss(exact(F.mse_loss)(drawn, target), {})

    def chance(self, rows: int) -> float:
        numbers = 3 * self.patch**2
        return (numbers - 1) / numbers

    def show(self, batch: Batch) -> Pictures:
        x, patch = self.view(batch.x), self.patch
        unseen, drawn = self.predict(x)
        true = take(patchify(x, patch), unseen)
        seen = painted(x, patch, unseen, torch.full_like(true, 0.5))
        count = drawn.shape[1]
        drawn = painted(seen, patch, unseen[:, :count], denormalise(drawn, true[:, :count]))
        note = (
            "A training crop, what is seen of it, and what is drawn: on the true patches' mean and deviation."
        )
        return Pictures(note, {"crop": x, "seen": seen, "drawn": drawn})
