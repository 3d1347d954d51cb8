"""Predicting an image patch by patch: AIM (El-Nouby et al. 2024, arXiv:2401.08541, sections 3.1 and 3.2).

The N patches of an image are read row by row. The first S of them, the prefix, see each other; from there on,
each sees what comes before it. S is drawn evenly from 1 to N - 1, for each image. Patch k + 1 is predicted
from patch k, by residual MLPs that see nothing else, as its pixels of mean 0 and deviation 1:

    L = 2 / N sum over k > S of || head(encoder(x)_(k-1) + position_(k-1)) - normalise(x_k) ||^2 / (p * p * 3)

N / 2 is what is scored on average: a patch counts the same wherever the prefix ends (docs/decisions/0005).
Features are read in both directions, as an image that is all prefix. Published training: AdamW, lr 1e-3,
weight decay 0.05, betas 0.9 and 0.95, batch 4096, clip 1, 500 k steps. Our backbones may have a class token.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone
from ssl_zoo.decoders import grid_positions
from ssl_zoo.heads import exact, token_head
from ssl_zoo.noise import stratified
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.tokens import denormalise, normalise, patchify
from ssl_zoo.views.masks import prefixes
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


@exact
def next_patch(drawn: Tensor, true: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """L, and the mean error of what is scored.

    Args:
        drawn, true: (B, N - 1, n) patches from the second on, as predicted and as they are.
        after: (B, N - 1) bool, which of them lie beyond the prefix.
    """
    total = ((drawn - true).square().mean(-1) * after).sum()
    rows, others = after.shape
    return total / (rows * (others + 1) / 2), total.detach() / after.sum().clamp_min(1)


class AIM(Objective[TokenBackbone]):
    """Args:
        backbone: a vision transformer that honours any order.
        width, depth: of the head: width of its residual MLPs (4 times that inside), and how many there are.
        view: images to training crops; default: the paper's crops of at least 40 %, and mirroring.

    Raises:
        ValueError: the backbone is not such a one, its images are a single patch, or the head has no block.
    """

    family = "autoregressive"
    takes = ("vit",)
    unit = "mean squared error of normalised pixels"
    tiny: ClassVar[dict[str, Any]] = {"width": 16, "depth": 1}
    position: Tensor

    def __init__(self, backbone: TokenBackbone, width: int = 2048, depth: int = 12, view: View | None = None):
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        assert backbone.patch is not None
        backbone.refuse(torch.zeros(1, 1, dtype=torch.long))
        backbone.order = "both"
        high, wide = backbone.grid(*backbone.image_size)
        if high * wide < 2 or min(width, depth) < 1:
            raise ValueError(
                f"of {high}x{wide} patches, with a head of {width=} and {depth=}, nothing can be predicted: "
                "it takes two patches and one block at least"
            )
        self.patch, self.view = backbone.patch, view or crop_flip(backbone.image_size, (0.4, 1.0))
        self.register_buffer("position", grid_positions(backbone.dim, high, wide), persistent=False)
        self.head = token_head(backbone.dim, width, depth, 3 * backbone.patch**2)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Crops -> patches from the second on, (B, N - 1, n), and which lie beyond the prefix, (B, N - 1)."""
        tokens = self.backbone.embed(x)  # (B, N, D)
        one = torch.zeros(tokens.shape[:2], dtype=torch.long, device=x.device)
        # Spread evenly over the batch, prefixes leave about as many patches to score in each step.
        order, after = prefixes(stratified(len(x), x.device)[:, None], one)
        code = self.backbone.encode(tokens, order=order).tokens
        return self.head((code + self.position)[:, :-1]), after[:, :-1]

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        drawn, after = self.predict(x)
        loss, error = next_patch(drawn, normalise(patchify(x, self.patch))[:, 1:], after)
        return Loss(loss, {"error": error}, {"error": after.sum()})

    def chance(self, rows: int) -> float:
        numbers = 3 * self.patch**2
        return (numbers - 1) / numbers

    def show(self, batch: Batch) -> Pictures:
        x, patch = self.view(batch.x), self.patch
        drawn, after = self.predict(x)
        true, after = patchify(x, patch)[:, 1:], after[..., None]
        at = torch.arange(1, true.shape[1] + 1, device=x.device).expand(len(x), -1)
        seen = painted(x, patch, at, torch.where(after, 0.5, true))
        drawn = painted(x, patch, at, torch.where(after, denormalise(drawn, true), true))
        note = (
            "A training crop, its prefix, and what is drawn of each patch from the true ones before it: on "
            "the true patches' mean and deviation."
        )
        return Pictures(note, {"crop": x, "prefix": seen, "drawn": drawn})
