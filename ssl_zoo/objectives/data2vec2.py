"""data2vec 2.0 (Baevski et al. 2023, arXiv:2212.07525): predict from a fifth of an image, several times over,
what a slow average of the network makes of the whole. With h^l what its block l of L gives for all tokens,

    y = layer_norm(1/K sum_{l > L - K} instance_norm(h^l)),  both without parameters
    L = mean over masks and hidden t of 1/sqrt(D) || decoder(put(0, seen, network(x_seen)))_t - y_t ||^2
    average <- m average + (1 - m) network after each step

where the instance norm is over the tokens of an image, for each feature. The network encodes patches in a few
squares alone; M masks of an image share one pass of the average. A light convolutional decoder sees what it
made of them at their places, and zeros elsewhere (the paper: noise of deviation 0.01).

1 / sqrt(D) is of the authors' code. Its targets are outputs of feed-forward layers before the residual sum;
here they are those of whole blocks. Its loss of the class token, weighed 0.01, is left out. Published
training: Adam, lr 1e-3, betas 0.9 and 0.95, weight decay 0.05, clip 4, 375 k steps of 256
images with 16 masks.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone
from ssl_zoo.decoders import ConvDecoder
from ssl_zoo.heads import exact, top_layers_over_tokens
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._latent import Foretold, LatentPrediction, all_but
from ssl_zoo.schedules import Ramp, ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import put, spread, take
from ssl_zoo.views.blocks import squares
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


@exact
def regression(drawn: Tensor, target: Tensor) -> Tensor:
    """L of what is drawn at hidden places, and of y there: (B, K, D)."""
    return F.mse_loss(drawn, target) * drawn.shape[-1] ** 0.5


class Data2Vec2(LatentPrediction):
    """Args:
        backbone: a vision transformer; a CNN cannot skip the patches it does not see.
        masked: share of patches that is hidden. block: side of the squares that are seen, in patches.
        masks: M, of each image.
        top: K, blocks that are averaged; all where there are fewer.
        width, depth, groups: of the decoder's convolutions.
        momentum: m by the fraction of training done; default: 0.9998 to 0.99999 over the first 27 %.
        view: images to training crops; default: random resized crop and flip.

    Raises:
        ValueError: the backbone is not a vision transformer, or a number is out of its range.
    """

    family = "distillation"
    takes = ("vit",)
    tiny: ClassVar[dict[str, Any]] = {
        "masked": 0.5, "block": 2, "masks": 2, "top": 2, "width": 16, "depth": 2, "groups": 2,
        "momentum": ramp(0.9, 0.99),
    }  # fmt: skip

    def __init__(
        self, backbone: TokenBackbone, masked: float = 0.8, block: int = 3, masks: int = 16, top: int = 10,
        width: int = 768, depth: int = 6, groups: int = 16, momentum: Ramp | None = None,
        view: View | None = None,
    ):  # fmt: skip
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        self.grid = backbone.grid(*backbone.image_size)
        patches = self.grid[0] * self.grid[1]
        self.keep, self.block, self.masks, self.top = round(patches * (1 - masked)), block, masks, top
        if not 0 < self.keep < patches or min(block, masks, top) < 1:
            raise ValueError(f"{masked=} of {patches} patches, {block=}, {masks=} or {top=} is out of range")
        self.view = view or crop_flip(backbone.image_size)
        self.decoder = ConvDecoder(backbone.dim, width, depth, groups)
        self.teacher, self.momentum = Teacher(backbone), momentum or ramp(0.9998, 0.99999, "linear", 0.27)

    def foretell(self, x: Tensor, segments: Tensor | None = None) -> Foretold:
        noise = rand(len(x), self.masks, 32, 2, device=x.device).flatten(0, 1)
        order = squares(noise, self.grid, self.block, self.grid[0] * self.grid[1])  # (B * M, N)
        seen, at = order[:, : self.keep], order[:, self.keep :]
        tokens = self.backbone.embed(x).repeat_interleave(self.masks, 0)
        code = self.backbone.encode(take(tokens, seen), seen).tokens
        drawn = self.decoder(put(torch.zeros_like(tokens, dtype=code.dtype), seen, code), self.grid)
        with torch.no_grad():
            y = top_layers_over_tokens(self.slow(x, layers="tokens").layers, self.top)  # (B, N, D)
        return Foretold(y, all_but(seen, y.shape[1]), at, at >= 0, take(drawn, at))

    def forward(self, batch: Batch) -> Loss:
        whole, _, at, valid, drawn = self.foretell(self.view(batch.x))
        y = take(whole.repeat_interleave(self.masks, 0), at)  # (B * M, K, D)
        # Near 0 where all are alike.
        parts = {"target_std": spread(y, valid), "prediction_std": spread(drawn.detach(), valid)}
        return Loss(regression(drawn, y), parts)
