"""What objectives share that hide patches of an image behind a learnt vector, and tell something of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Objective
from ssl_zoo.tokens import put, take
from ssl_zoo.views.blocks import hidden_blocks, hidden_count
from ssl_zoo.views.view import View


class MaskedPatches(Objective[TokenBackbone]):
    """The network reads all places of an image, some of which hold one learnt vector in place of a patch.

    Args:
        backbone: a vision transformer.
        masked: share of the squares that is hidden; their number is rounded up.
        view: images to training crops; None: those of the paper.
        paper: makes the paper's view of an image size (height, width).
        side: of the squares that are hidden whole, in patches.

    Raises:
        ValueError: the backbone is not a vision transformer, its patches do not make whole squares, or there
            would be nothing to hide or nothing left to see.
    """

    def __init__(
        self,
        backbone: TokenBackbone,
        masked: float,
        view: View | None,
        paper: Callable[[tuple[int, int]], View],
        side: int = 1,
    ):
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        assert backbone.patch is not None
        backbone.order = "both"
        self.patch, self.grid, self.side = backbone.patch, backbone.grid(*backbone.image_size), side
        high, wide = self.grid
        if side < 1 or high % side or wide % side:
            raise ValueError(
                f"{high}x{wide} patches do not make squares of {side}x{side}: side=1 always does"
            )
        self.places = high * wide // side**2
        self.count = hidden_count(masked, self.places)
        self.view, self.normalise = view or paper(backbone.image_size), backbone.normalise
        self.blank = nn.Parameter(nn.init.trunc_normal_(torch.empty(backbone.dim), std=0.02))

    def in_blocks(self, x: Tensor, block: int) -> Tensor:
        """What is hidden of crops x (B, C, H, W), in BEiT's rectangles of `block` patches or more: (B, K)."""
        noise = rand(len(x), 32, 4, device=x.device)
        return hidden_blocks(noise, self.grid, self.count, block)

    def code(self, x: Tensor, at: Tensor) -> Tensor:
        """What the network makes of the hidden patches at (B, K) of crops x (B, C, H, W): (B, K, D)."""
        tokens = self.backbone.embed(x)  # (B, N, D)
        left = put(tokens, at, self.blank.to(tokens.dtype).expand(*at.shape, -1))
        return take(self.backbone.encode(left).tokens, at)

    def restore(self, read: Tensor) -> Tensor:
        """Images as the network reads them, with standardised channels -> pixels in [0, 1], (B, C, H, W)."""
        return read * self.normalise.std + self.normalise.mean
