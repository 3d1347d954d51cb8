"""DINOv2's objective (Oquab et al. 2023, arXiv:2304.07193, section 4): DINO, iBOT, and features kept apart.

A student sees large crops of an image, half of them with blocks of patches hidden, and small ones. With q
what a teacher, which sees the large crops whole, says of K prototypes, balanced over the batch by 3 rounds of
Sinkhorn's algorithm at the temperature T_t,

    L  = mean over crops g and v, v != g, of - sum_k q_gk log softmax(student(x_v) / T_s)_k
       + mean over large crops of the mean over hidden i of - sum_k q_ik log softmax(student(x)_i / T_s)_k
       + w sum over large crops of KoLeo(pooled features of that crop of all images)

KoLeo is - mean log distance to the nearest other row. Instead of Sinkhorn, centring="mean" takes a moving
mean off the scores: that of M patches a crop, hidden or not (theirs: of hidden ones). Patches and crops share
a head, as in the code's default; the paper's large runs have two. The code hides patches in exactly half of a
batch, in evenly spread shares; here each crop draws. Learning rates by layer are no part of the objective.
Published training: AdamW, lr 4e-3 x sqrt(batch / 1024), weight decay 0.04 to 0.4, clip 3, drop path 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch

from ssl_zoo.assign import entropy
from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import koleo
from ssl_zoo.memory import Centre
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._distilled import Hidden, SelfDistillation, distillation, patch_distillation
from ssl_zoo.tokens import take
from ssl_zoo.views.recipes import dino
from ssl_zoo.views.view import Views


class DINOv2(SelfDistillation):
    """Args:
        backbone: a vision transformer; a CNN cannot hide patches before positions are added.
        prototypes, temperature: K and T_s, of crops and patches.
        width, bottleneck: of the head, three linear layers with GELU that end in rows of norm 1.
        teacher_temperature: T_t, first and last; it rises over the fraction `warmup` of training.
        momentum: share of the teacher that stays in a step; rises to 1 by a cosine.
        frozen: fraction of training for which the prototypes stand still.
        masked, share: share of a crop's patches that is hidden, least and most, and of crops that hide any.
        block: patches in a rectangle at least.
        spread: w, weight of KoLeo.
        centring: how the teacher is kept from one prototype for all: "sinkhorn", or "mean" as in DINO.
        views: crops; the teacher sees those of the first size. None: the paper's, small ones 3/7 as wide.

    Raises:
        ValueError: a CNN, one crop an image, a number out of range; from `forward`, a batch of one image.
    """

    family = "distillation"
    unit = "nats"
    takes = ("vit",)
    whole_batch = True
    tiny: ClassVar[dict[str, Any]] = {"prototypes": 12, "width": 24, "bottleneck": 8, "block": 2}

    def __init__(
        self, backbone: ImageBackbone, prototypes: int = 65_536, width: int = 2048, bottleneck: int = 256,
        temperature: float = 0.1, teacher_temperature: Sequence[float] = (0.04, 0.07), warmup: float = 0.3,
        momentum: float = 0.992, frozen: float = 0.01, masked: Sequence[float] = (0.1, 0.5),
        share: float = 0.5, block: int = 4, spread: float = 0.1,
        centring: Literal["sinkhorn", "mean"] = "sinkhorn", views: Views | None = None,
    ):  # fmt: skip
        super().__init__(
            backbone, prototypes, width, bottleneck, temperature, teacher_temperature, warmup, momentum,
            frozen, views, partial(dino, scale=(0.32, 1.0), local_scale=(0.05, 0.32)),
        )  # fmt: skip
        if centring not in ("sinkhorn", "mean") or spread < 0:
            raise ValueError(f"{centring=} is 'sinkhorn' or 'mean', and {spread=} a weight of at least 0")
        self.hide, self.spread = Hidden(backbone.dim, masked, share, block), spread
        balanced = centring == "sinkhorn"
        self.centre, self.patch_centre = (None if balanced else Centre(prototypes) for _ in range(2))

    def forward(self, batch: Batch) -> Loss:
        crops = self.views(batch.x)  # (V_size * B, C, h, w) for each size
        pooled, student, patches, at, valid = self.score_hidden(crops, len(batch.x), self.hide)
        with torch.no_grad():
            backbone, project, compare = self.teacher
            whole = backbone(crops[0])
            rows = torch.cat([whole.pooled, take(whole.tokens, at).flatten(0, 1)])
            teacher, hidden = compare(project(rows)).split([len(at), at.numel()])
            q = self.target(teacher, self.centre)  # (G * B, K)
            q_patches = self.target(hidden, self.patch_centre, valid.flatten()).unflatten(0, at.shape)
        crop = distillation(student, q, len(batch.x), self.temperature)
        patch = patch_distillation(patches, q_patches, valid, self.temperature)
        near = sum(koleo(rows) for rows in pooled[: len(at)].split(len(batch.x)))
        parts = {"crop": crop, "patch": patch, "koleo": near, "teacher_entropy": entropy(q)}
        loss = crop + patch + self.spread * near
        return Loss(loss, {name: value.detach() for name, value in parts.items()})

    def advance(self, t: float) -> None:
        super().advance(t)
        for centre in (self.centre, self.patch_centre):
            if centre is not None:
                centre.flush()

    def chance(self, rows: int) -> float:
        """As iBOT, and with features that are all at the distance that KoLeo's 1e-8 makes of none."""
        large, dim = self.large, self.backbone.dim
        near = -math.log(1e-8 * (1 + dim**0.5))
        return (1 + self.hide.share) * super().chance(rows) + large * self.spread * near
