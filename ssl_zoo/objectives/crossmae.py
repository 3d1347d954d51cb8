"""MAE whose patches are drawn without each other: CrossMAE (Fu et al. 2024, arXiv:2401.14391, section 3).

As in MAE, most patches are dropped before the encoder. A decoder of cross-attention alone asks the code of
the rest what lies at some of them. Each of its blocks j reads a mix of its own of what the encoder's blocks i
gave, c_j = sum_i w_ji h^i, with learnt shares w:

    L = mean over patches i asked for of || decoder(blank + position_i; c) - normalise(x_i) ||^2 / (p * p * 3)

As no patch that is drawn sees another, each is drawn the same however many are asked for. The authors' code
mixes the patch embeddings in, too, and takes the last block without the encoder's last norm; here it is
behind that norm, as features are read. Published training: MAE's (AdamW, lr 1.5e-4 x batch / 256, weight
decay 0.05, betas 0.9 and 0.95, batch 4096), 800 epochs.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.decoders import CrossDecoder
from ssl_zoo.objectives._dropped import DroppedPatches
from ssl_zoo.views.view import View


class CrossMAE(DroppedPatches):
    """Args:
        backbone: a vision transformer; a CNN cannot skip the patches it does not see.
        masked: fraction of patches dropped.
        predicted: fraction of all patches that is drawn, of those.
        width, depth, heads: the decoder's.
        view: images to training crops; default: MAE's random resized crop and flip.

    Raises:
        ValueError: the backbone is not a vision transformer, or too few patches would be left or drawn.
    """

    family = "masked"
    takes = ("vit",)
    unit = "mean squared error of normalised pixels"
    tiny: ClassVar[dict[str, Any]] = {"width": 16, "depth": 2, "heads": 2}

    def __init__(
        self,
        backbone: TokenBackbone,
        masked: float = 0.75,
        predicted: float = 0.25,
        width: int = 512,
        depth: int = 12,
        heads: int = 16,
        view: View | None = None,
    ):
        super().__init__(backbone, masked, width, view)
        patches = len(self.position)
        self.count = round(patches * predicted)
        if not 0 < self.count <= patches - self.keep:
            raise ValueError(
                f"predicted={predicted} of {patches} patches are {self.count}, and {patches - self.keep} are "
                "dropped: draw one at least, and no more than these"
            )
        self.blank = nn.Parameter(torch.randn(width) * 0.02)
        maps = len(backbone.blocks())
        self.decoder = CrossDecoder(backbone.dim, maps, width, depth, heads, 3 * self.patch**2)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens, seen, unseen = self.split(x)
        code = self.backbone.encode(tokens, seen, layers="tokens")
        asked = self.blank + self.position[unseen[:, : self.count]]  # (B, K, width)
        return unseen, self.decoder(asked, [*code.layers[:-1], code.tokens])
