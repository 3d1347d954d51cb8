"""data2vec (Baevski et al. 2022, arXiv:2202.03555): predict from part of an input what a slow average of the
network makes of the whole. With h_t^l what its block l of L gives at t, n() a norm without parameters,

    y_t = 1/K sum_{l > L - K} n(h_t^l)
    L = mean over hidden t of 1/sqrt(D) sum_d s(f_t - y_t)_d;  s(e) = e^2 / 2 b if |e| < b, else |e| - b / 2
    average <- m average + (1 - m) network after each step

Images hide blocks of patches behind a learnt vector, before positions are added; text hides runs of tokens
behind the mask id. The average reads the network's own embeddings. 1 / sqrt(D) is of the authors' code, whose
targets are outputs of feed-forward layers before the residual sum; here they are those of whole blocks.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone, check_ids
from ssl_zoo.heads import exact, mlp, top_layers
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._latent import Foretold, LatentPrediction, all_but
from ssl_zoo.schedules import Ramp, ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import put, spread, take
from ssl_zoo.views.blocks import hidden_blocks, hidden_count
from ssl_zoo.views.hiding import Hiding
from ssl_zoo.views.masks import Runs
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


@exact
def regression(drawn: Tensor, target: Tensor, valid: Tensor, beta: float) -> Tensor:
    """L of (B, K, D), where positions that are not valid (B, K) count as 0: parts average to the whole."""
    each = F.smooth_l1_loss(drawn, target, reduction="none", beta=beta).sum(-1) / drawn.shape[-1] ** 0.5
    return (each * valid).mean()


class Data2Vec(LatentPrediction):
    """Args:
        backbone: a vision transformer, or a text backbone that sees both ways and has a mask token.
        masked: share of patches or tokens that is hidden (0.6 for images, rounded up; 0.35 for text).
        block: patches in a rectangle at least (16), or tokens in a run (4).
        top: K, blocks that are averaged (6 for images, 10 for text); all where there are fewer.
        beta: b of the distance (2 for images, 4 for text).
        head: linear layers of the prediction (1 for images, 2 for text).
        momentum: m by the fraction of training done; default: 0.9998, a half-life of 3,465 steps.
        view: images to training crops; default: random resized crop and flip. Text takes none.

    Raises:
        ValueError: no mask token in the vocabulary, a view for text, or a number out of its range.
    """

    family = "distillation"
    takes = ("vit", "transformer", "encoder")
    tiny: ClassVar[dict[str, Any]] = {"block": 2, "top": 2, "momentum": ramp(0.9, 0.99)}

    def __init__(
        self, backbone: TokenBackbone, masked: float = 0.6, block: int = 16, top: int = 6, beta: float = 2.0,
        head: int = 1, momentum: Ramp | None = None, view: View | None = None
    ):  # fmt: skip
        super().__init__(backbone)
        if view is not None and backbone.modality == "text":
            raise ValueError("what text hides is its view; leave `view` out")
        if not 0 < masked < 1 or min(block, top, head) < 1 or beta < 0:
            raise ValueError(f"{masked=}, {block=}, {top=}, {head=}, {beta=}: one is out of its range")
        backbone.order = "both"
        self.block, self.top, self.beta = block, top, beta
        if isinstance(backbone, ImageBackbone):
            self.view, self.grid = view or crop_flip(backbone.image_size), backbone.grid(*backbone.image_size)
            self.count = hidden_count(masked, self.grid[0] * self.grid[1])
            self.blank = nn.Parameter(torch.randn(backbone.dim) * 0.02)
        else:
            self.view = nn.Identity()
            self.hiding = Hiding(backbone.vocabulary, Runs(masked, block))
        self.predict = mlp(backbone.dim, *[2 * backbone.dim] * (head - 1), backbone.dim, act="gelu")
        self.teacher, self.momentum = Teacher(backbone), momentum or ramp(0.9998, 0.9998)

    def hide(self, x: Tensor, segments: Tensor | None) -> tuple[Tensor, ...]:
        """Embeddings of the whole and of what is left (B, N, D), what is hidden, if it is valid (B, K)."""
        embed = self.backbone.embed
        if self.backbone.modality == "text":
            check_ids(x, self.hiding.size)
            at, valid = self.hiding(rand(*x.shape, device=x.device), ids := x.long(), segments)
            shown = torch.where(valid, self.hiding.mask, ids.gather(1, at))
            return embed(ids), embed(put(ids, at, shown)), at, valid
        whole = embed(x)
        noise = rand(len(x), 32, 4, device=x.device)  # BEiT's rectangles
        at = hidden_blocks(noise, self.grid, self.count, self.block)
        left = put(whole, at, self.blank.to(whole.dtype).expand(*at.shape, -1))
        return whole, left, at, torch.ones_like(at, dtype=torch.bool)

    def foretell(self, x: Tensor, segments: Tensor | None = None) -> Foretold:
        whole, left, at, valid = self.hide(x, segments)
        drawn = self.predict(take(self.backbone.encode(left, None, segments).tokens, at))  # (B, K, D)
        with torch.no_grad():
            y = top_layers(self.slow.encode(whole, None, segments, layers="tokens").layers, self.top)
        return Foretold(y, ~all_but(at, y.shape[1]), at, valid, drawn)

    def forward(self, batch: Batch) -> Loss:
        whole, _, at, valid, drawn = self.foretell(self.view(batch.x), batch.segments)
        target = take(whole, at)
        # Near 0 where all are alike.
        parts = {"target_std": spread(target, valid), "prediction_std": spread(drawn.detach(), valid)}
        return Loss(regression(drawn, target, valid, self.beta), parts)
