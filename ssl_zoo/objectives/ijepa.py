"""Predicting an image's blocks in feature space: I-JEPA (Assran et al. 2023, arXiv:2301.08243).

A student encodes some cells of a large block of the image, the context; a narrow transformer predicts from
them what the teacher, which sees the whole image, says at the cells of four smaller blocks, the targets:

    L = mean over targets, cells i and features of smooth_l1(predict(student(context), i), norm(teacher(x))_i)

where norm is a layer norm of each cell, without parameters. The teacher follows the student. The smooth L1
distance is of the authors' code; the paper writes the squared one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, ImageBackbone, TokenBackbone
from ssl_zoo.decoders import PatchDecoder, grid_positions
from ssl_zoo.heads import exact
from ssl_zoo.noise import rand, rand_shared
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._latent import Foretold, LatentPrediction, all_but
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import take
from ssl_zoo.views.blocks import multiblock
from ssl_zoo.views.recipes import crop
from ssl_zoo.views.view import View


class IJEPA(LatentPrediction):
    """Args:
        backbone: a vision transformer; a CNN cannot skip the patches it does not see.
        targets: blocks to predict.
        keep: share of the image's cells that the student sees, taken at random from the context.
        width, depth, heads: the predictor's.
        momentum: share of the teacher that stays in a step; rises to 1 on a line.
        view: images to training crops; default: the paper's random resized crop, and nothing else.

    Raises:
        ValueError: the backbone is not a vision transformer, no block is to be predicted, or too few patches
            would be left.
    """

    family = "masked"
    takes = ("vit",)
    tiny: ClassVar[dict[str, Any]] = {"width": 16, "depth": 1, "heads": 2}
    position: Tensor

    def __init__(
        self,
        backbone: TokenBackbone,
        targets: int = 4,
        keep: float = 0.35,
        width: int = 384,
        depth: int = 6,
        heads: int = 12,
        momentum: float = 0.996,
        view: View | None = None,
    ):
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        if targets < 1:
            raise ValueError(f"targets={targets}: there is nothing to predict; take 1 block or more")
        self.grid = backbone.grid(*backbone.image_size)
        self.keep, self.targets = round(keep * self.grid[0] * self.grid[1]), targets
        if not 0 < self.keep < self.grid[0] * self.grid[1]:
            raise ValueError(
                f"keep={keep} of {self.grid[0]}x{self.grid[1]} patches are {self.keep}: the student sees one "
                "at least, and not all; change `keep`, or use smaller patches or larger images"
            )
        self.view = view or crop(backbone.image_size)
        self.widen = nn.Linear(backbone.dim, width)
        self.blank = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("position", grid_positions(width, *self.grid), persistent=False)
        self.predict = PatchDecoder(width, depth, heads, backbone.dim)
        self.teacher = Teacher(backbone)
        self.momentum = ramp(momentum, 1.0, "linear")

    def foretell(self, x: Tensor, segments: Tensor | None = None) -> Foretold:
        b, n, device = len(x), len(self.position), x.device
        places, order = rand(b, 1 + self.targets, 2, device=device), rand(b, n, device=device)
        context, targets = multiblock(rand_shared(3), places, order, self.grid, self.keep)
        code = self.backbone.encode(take(self.backbone.embed(x), context), context).tokens
        code = self.widen(code) + self.position[context]  # (B, keep, width)
        asked = self.blank + self.position[targets.flatten(0, 1)]  # (B * targets, K, width)
        # Each target is predicted by itself: they do not see one another.
        code = code.repeat_interleave(self.targets, 0)
        drawn = self.predict(torch.cat([code, asked], 1), self.keep)  # (B * targets, K, D)
        with torch.no_grad():
            whole = exact(F.layer_norm)(self.slow(x).tokens, (self.backbone.dim,))  # (B, N, D)
        at = targets.flatten(1)  # (B, targets * K)
        return Foretold(whole, all_but(context, n), at, at >= 0, drawn.reshape(*at.shape, -1))

    def forward(self, batch: Batch) -> Loss:
        whole, _, at, _, drawn = self.foretell(self.view(batch.x))
        # A layer norm hides a shrinking scale; what collapse cannot hide is that images become alike.
        parts = {"target_std": whole.std(0, correction=0).mean()}
        return Loss(exact(F.smooth_l1_loss)(drawn, take(whole, at)), parts)

    def export(self) -> dict[str, Backbone]:
        """The teacher's backbone, which the paper measures."""
        return {"backbone": self.slow}
