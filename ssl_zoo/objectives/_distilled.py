"""What DINO, iBOT, DINOv2, MSN and CAPI share: scores of prototypes that follow a slow average's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ssl_zoo.assign import centre_softmax, sinkhorn
from ssl_zoo.backbones._base import Backbone, Features, ImageBackbone, TokenBackbone
from ssl_zoo.heads import Prototypes, bottleneck_head, exact
from ssl_zoo.memory import Centre
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives._joint import MultiCrop, crop_pairs
from ssl_zoo.objectives._shown import Pairs
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import put, take
from ssl_zoo.views.blocks import some_blocks
from ssl_zoo.views.masks import random_split
from ssl_zoo.views.view import Views


@exact
def agreement(scores: Tensor, q: Tensor, temperature: float) -> Tensor:
    """The mean over rows (..., K) of - sum_k q_k log softmax(scores / temperature)_k."""
    return -(q * (scores / temperature).log_softmax(-1)).sum(-1).mean()


@exact
def distillation(student: Tensor, q: Tensor, count: int, temperature: float) -> Tensor:
    """The mean over pairs of crops g and v, v != g, of - sum_k q_gk log softmax(student_v / temperature)_k.

    student: (V * B, K) scores of V crops of B = `count` images, large crops first; q: (G * B, K), of those.
    """
    log_p = (student / temperature).log_softmax(1).unflatten(0, (-1, count))  # (V, B, K)
    pairs = torch.einsum("gbk,vbk->gvb", q.unflatten(0, (-1, count)), log_p).mean(2)  # (G, V)
    other = 1 - torch.eye(*pairs.shape, dtype=pairs.dtype, device=pairs.device)
    return -(pairs * other).sum() / (pairs.numel() - len(pairs))


@exact
def patch_distillation(student: Tensor, q: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """The mean over crops of the mean over valid patches of - sum_k q_k log softmax(student / temperature)_k.

    student, q: (B, M, K) of M patches of each crop; valid: (B, M) bool. A crop without any counts as 0.
    """
    each = -(q * (student / temperature).log_softmax(2)).sum(2) * valid  # (B, M)
    return (each.sum(1) / valid.sum(1).clamp_min(1)).mean()


def crop_noise(x: Tensor, count: int, numbers: int) -> Tensor:
    """So many uniform numbers for each crop x (G * B, C, H, W) of `count` images: (G * B, numbers)."""
    return rand(count, len(x) // count, numbers, device=x.device).transpose(0, 1).flatten(0, 1)


def thinned(backbone: Backbone, x: Tensor, count: int, dropped: float) -> Tensor:
    """Pooled features of crops of `count` images that a vision transformer sees without a share of patches.

    x: (G * B, C, H, W) -> (G * B, D). The share `dropped`, in (0, 1), is rounded up, as in MSN's code
    (arXiv:2204.07141); which patches go is drawn for each crop, and there once a batch."""
    assert isinstance(backbone, TokenBackbone)
    assert isinstance(backbone, ImageBackbone)
    tokens = backbone.embed(x)
    keep = max(int(tokens.shape[1] * (1 - dropped)), 1)
    at, _ = random_split(crop_noise(x, count, tokens.shape[1]), keep)
    return backbone.encode(take(tokens, at), at, grid=backbone.grid(*x.shape[-2:])).pooled


class SelfDistillation(MultiCrop):
    """A student whose scores of prototypes follow those of a teacher, its slow average, on other crops.

    Args:
        backbone: any vision backbone. A CNN's heads have batch norms, those of a ViT none.
        prototypes, temperature: K, and what the student's scores are divided by.
        width, bottleneck: of the head, three linear layers with GELU that end in rows of norm 1.
        teacher_temperature: what the teacher's scores are divided by, first and last; it rises over the
            fraction `warmup` of training.
        momentum: share of the teacher that stays in a step; rises to 1 by a cosine.
        frozen: fraction of training for which the prototypes stand still.
        views: crops; the teacher sees those of the first size. None: those of the paper.
        paper: makes the paper's crops of the size of large ones, and that of small ones, 3/7 as wide.

    Raises:
        ValueError: the backbone is not for images, an image has one crop, or a temperature is not positive.
    """

    whole_batch = False  # rows meet prototypes, not each other
    aim = "predicts one crop from another"

    def __init__(
        self,
        backbone: ImageBackbone,
        prototypes: int,
        width: int,
        bottleneck: int,
        temperature: float,
        teacher_temperature: Sequence[float],
        warmup: float,
        momentum: float,
        frozen: float,
        views: Views | None,
        paper: Callable[[tuple[int, int], tuple[int, int]], Views],
    ):
        super().__init__(backbone, views, paper)
        if len(teacher_temperature) != 2 or min(temperature, *teacher_temperature) <= 0:
            raise ValueError(f"{temperature=} is one positive number, and {teacher_temperature=} are two")
        self.project = bottleneck_head(
            backbone.dim, width, bottleneck, "batch" if backbone.kind == "cnn" else None
        )
        self.compare = Prototypes(bottleneck, prototypes)
        self.teacher = Teacher(backbone, self.project, self.compare)
        self.temperature, self.frozen, self.momentum = temperature, frozen, ramp(momentum, 1.0)
        self.teacher_temperature = ramp(teacher_temperature[0], teacher_temperature[1], "linear", warmup)

    def score(self, rows: Tensor) -> Tensor:
        """The student's scores of features (N, D): (N, K)."""
        return self.compare(self.project(rows), (self.t >= self.frozen).to(self.t))

    def target(self, scores: Tensor, centre: Centre | None, valid: Tensor | None = None) -> Tensor:
        """What the teacher says, by its scores (N, K), which the centre notes: (N, K), rows that sum to 1.

        Where there is no centre, prototypes get equal shares of the rows that are `valid`, (N,) bool."""
        t_t = self.teacher_temperature(self.t)
        if centre is None:
            return sinkhorn(scores, t_t, valid=valid)
        centre.stash(scores)
        return centre_softmax(scores, centre.value, t_t)

    def score_hidden(self, crops: Sequence[Tensor], count: int, hide: Hidden) -> tuple[Tensor, ...]:
        """What the student says of crops of `count` images, where patches of the large ones are hidden.

        Returns:
            pooled: (V * B, D) features of all crops, large ones first, and their scores (V * B, K).
            patches: (G * B, M, K) scores of M patches of each large crop.
            at, valid: (G * B, M) which patches those are, and whether they are hidden.
        """
        large, *small = crops
        seen, at, valid = hide(self.backbone, large, count)
        pooled = torch.cat([seen.pooled, *(self.backbone(x).pooled for x in small)])
        scores = self.score(torch.cat([pooled, take(seen.tokens, at).flatten(0, 1)]))
        scores, patches = scores.split([len(pooled), at.numel()])
        return pooled, scores, patches.unflatten(0, at.shape), at, valid

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))

    def export(self) -> dict[str, Backbone]:
        """The teacher's backbone, which the papers measure."""
        return {"backbone": self.teacher[0]}  # pyright: ignore[reportReturnType]

    def chance(self, rows: int) -> float:
        """ln K, where all prototypes are alike. A loss of 0 is as bad: one prototype then has all images."""
        return math.log(len(self.compare.weight))

    def show(self, batch: Batch) -> Pairs:
        backbone, project, *_ = self.teacher
        return crop_pairs(self.views(batch.x), len(batch.x), backbone, project, "the teacher's rows")


class Hidden(nn.Module):
    """Hides blocks of patches of some crops behind a learnt vector (iBOT: Zhou et al., arXiv:2111.07832).

    Args:
        dim: width of a patch's embedding.
        masked: share of a crop's patches that is hidden, least and most.
        share: share of the crops of which any are.
        block: patches in a rectangle at least.

    Raises:
        ValueError: a share out of its range.
    """

    def __init__(self, dim: int, masked: Sequence[float], share: float, block: int):
        super().__init__()
        if len(masked) != 2 or not 0 < masked[0] <= masked[1] < 1 or not 0 <= share <= 1 or block < 1:
            raise ValueError(
                f"masked={masked} are two shares in (0, 1), least and most, share={share} is in [0, 1], and "
                f"block={block} at least 1 patch"
            )
        self.masked, self.share, self.block = masked, share, block
        self.blank = nn.Parameter(torch.zeros(dim))

    def forward(self, backbone: Backbone, x: Tensor, count: int) -> tuple[Features, Tensor, Tensor]:
        """What a vision transformer makes of crops of `count` images, and which patches of them are hidden.

        x: (G * B, C, H, W) -> features; at (G * B, M) int64; valid (G * B, M) bool, which of them are hidden.
        """
        assert isinstance(backbone, TokenBackbone)
        assert isinstance(backbone, ImageBackbone)
        grid = backbone.grid(*x.shape[-2:])
        at, valid = some_blocks(crop_noise(x, count, 2 + 16 * 4), grid, self.masked, self.share, self.block)
        tokens = backbone.embed(x)
        shown = torch.where(valid[..., None], self.blank.to(tokens.dtype), take(tokens, at))
        return backbone.encode(put(tokens, at, shown), grid=grid), at, valid
