"""data2vec (Baevski et al. 2022, arXiv:2202.03555): predict, from what is left of an input, what a slow
average of the network makes of the whole of it.

With h_t^l the output of block l of L of the average at position t, and n() a layer norm without parameters,

    y_t = 1/K sum_{l > L - K} n(h_t^l)

    L = mean over hidden t of 1/sqrt(D) sum_d smooth_l1(f_t - y_t)_d,   smooth_l1(e) = e^2 / (2 beta) if |e| < beta,
                                                                                        else |e| - beta / 2

    average <- m average + (1 - m) network after each step, with m rising linearly

Images hide blocks of patches, behind a learnt vector that enters before positions do; text hides runs of
tokens, all of them behind the mask id. The average reads the network's own embeddings of the whole input.
1 / sqrt(D) is of the authors' code (fairseq). Their targets are outputs of the feed-forward layers before the
residual sum; here they are outputs of whole blocks, as their code has for images by another switch.
Published: images, Adam 2e-3, weight decay 0.05, batch 2048; text, 2e-4, 0.01, batch 256 x 512 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone, check_ids
from ssl_zoo.heads import exact, mlp
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import put, take
from ssl_zoo.views.masks import Runs, blocks
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View

RECTANGLES, ASPECT = 32, (0.3, 1 / 0.3)  # tried in an image, and their height / width (BEiT)


def targets(layers: Sequence[Tensor], top: int) -> Tensor:
    """Mean of the last `top` blocks' outputs (B, N, D), each normalised over D: (B, N, D) float32."""
    return torch.stack([F.layer_norm(h.float(), h.shape[-1:]) for h in layers[-top:]]).mean(0)


@exact
def regression(drawn: Tensor, target: Tensor, valid: Tensor, beta: float, total: float) -> Tensor:
    """Sum over the valid (B, K) of the smooth distances of (B, K, D) over sqrt(D), divided by `total`."""
    each = F.smooth_l1_loss(drawn, target, reduction="none", beta=beta).sum(-1) / drawn.shape[-1] ** 0.5
    return (each * valid).sum() / total


class Data2Vec(Objective[TokenBackbone]):
    """Args:
        backbone: a vision transformer, or a text backbone that sees both ways and has a mask token.
        masked: share of patches or tokens that is hidden (0.6 for images, 0.35 for text).
        block: patches in a rectangle at least (16), or tokens in a run (4).
        top: K, blocks that are averaged (6 for images, 10 for text).
        beta: of the smooth L1 distance (2 for images, 4 for text).
        head: linear layers of the prediction (1 for images, 2 for text).
        momentum: m at the start and once risen; 0.9998 is a half-life of 3,465 steps.
        rises: fraction of training in which m rises.
        view: images to training crops; default: random resized crop and flip. Text takes none.

    Raises:
        ValueError: no mask token, more blocks than the backbone has, nothing hidden or nothing left.
    """

    family = "distillation"
    takes = ("vit", "transformer", "encoder")
    tiny: ClassVar[dict[str, Any]] = {"block": 2, "top": 2, "momentum": (0.9, 0.99)}
    special: Tensor  # (V,) bool

    def __init__(
        self,
        backbone: TokenBackbone,
        masked: float = 0.6,
        block: int = 16,
        top: int = 6,
        beta: float = 2.0,
        head: int = 1,
        momentum: Sequence[float] = (0.9998, 0.9998),
        rises: float = 0.3,
        view: View | None = None,
    ):
        super().__init__(backbone)
        if not 0 < top <= len(backbone.blocks()):
            raise ValueError(
                f"top={top} blocks cannot be averaged: this backbone has {len(backbone.blocks())}"
            )
        backbone.refuse("both")
        backbone.order = "both"
        self.top, self.beta = top, beta
        self.mask, self.view = Runs(masked, block), view
        if isinstance(backbone, ImageBackbone):
            self.grid = backbone.grid(*backbone.image_size)
            self.view = view or crop_flip(backbone.image_size)
            self.blank = nn.Parameter(torch.randn(backbone.dim) * 0.02)
        else:
            vocabulary = backbone.vocabulary
            if vocabulary is None or vocabulary.mask is None:
                raise ValueError("data2vec hides tokens behind a mask token, and this tokenizer has none")
            special = torch.zeros(vocabulary.size, dtype=torch.bool)
            special[list({*vocabulary.special, vocabulary.mask, vocabulary.pad})] = True
            self.register_buffer("special", special, persistent=False)
            self.hidden = vocabulary.mask
        self.predict = mlp(backbone.dim, *[2 * backbone.dim] * (head - 1), backbone.dim, act="gelu")
        self.teacher = Teacher(backbone)
        self.momentum = ramp(*momentum, "linear", rises)

    def hide(self, x: Tensor, segments: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings of the whole (B, N, D) and of what is left of it, hidden positions and which are valid (B, K)."""
        backbone = self.backbone
        if self.view is not None:
            whole = backbone.embed(self.view(x))
            count = round(self.mask.rate * whole.shape[1])
            noise = rand(len(x), RECTANGLES, 4, device=x.device)
            at = blocks(noise, self.grid, count, (self.mask.length, max(count, self.mask.length)), ASPECT)
            blank = self.blank.to(whole.dtype).expand(*at.shape, -1)
            return whole, put(whole, at, blank), at, torch.ones_like(at, dtype=torch.bool)
        check_ids(x, len(self.special))
        ids = x.long()
        candidates = ~self.special[ids]
        if segments is not None:
            candidates &= segments >= 0
        at, valid = self.mask(rand(*ids.shape, device=x.device), ids, candidates)
        shown = torch.where(valid, self.hidden, ids.gather(1, at))
        return backbone.embed(ids), backbone.embed(put(ids, at, shown)), at, valid

    def forward(self, batch: Batch) -> Loss:
        whole, left, at, valid = self.hide(batch.x, batch.segments)
        drawn = self.predict(take(self.backbone.encode(left, None, batch.segments).tokens, at))  # (B, K, D)
        (slow,) = self.teacher
        with torch.no_grad():
            seen = slow.encode(whole.detach(), None, batch.segments, layers="tokens").layers
            target = take(targets(seen, self.top), at)
        total = (
            at.shape[1] * len(at) if self.view is not None else self.mask.rate * left.shape[0] * left.shape[1]
        )
        loss = regression(drawn, target, valid, self.beta, total)
        rows = {"target_std": target[valid], "prediction_std": drawn.detach().float()[valid]}
        return Loss(loss, {name: row.std(0, correction=0).mean() for name, row in rows.items()})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))
