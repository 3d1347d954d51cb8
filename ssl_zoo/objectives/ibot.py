"""Self-distillation of crops and of hidden patches: iBOT (Zhou et al. 2021, arXiv:2111.07832, eq. 1 to 3).

A student sees large crops of an image, some with blocks of patches hidden behind a learnt vector, and small
ones. It predicts what a teacher, which sees all of the large crops, says of other crops, and of the hidden
patches, as distributions over the same K prototypes:

    q  = softmax((teacher(x) - c) / T_t), and of patch i with a centre of its own, q_i
    L  = mean over crops g and v, v != g, of - sum_k q_gk log softmax(student(x_v) / T_s)_k
       + mean over large crops of the mean over hidden i of - sum_k q_ik log softmax(student(x)_i / T_s)_k

The teacher follows the student, the centres the means of the teacher's scores, of patches of all of them.
Half of the crops hide none, and count as 0 in the second mean, as in the authors' code. Each crop hides
exactly its number; theirs ends early where no rectangle fits. Heads read pooled tokens; the paper's, a class
token.
Published training: AdamW, lr 5e-4 x batch / 256, weight decay 0.04 to 0.4, batch 1024.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch

from ssl_zoo.assign import centre_softmax, entropy
from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.memory import Centre
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._distilled import Hidden, SelfDistillation, distillation, patch_distillation
from ssl_zoo.tokens import take
from ssl_zoo.views.recipes import dino
from ssl_zoo.views.view import Views


class IBOT(SelfDistillation):
    """Args:
        backbone: a vision transformer; a CNN cannot hide patches before positions are added.
        prototypes, temperature: K and T_s, of crops and patches.
        width, bottleneck: of the head, three linear layers with GELU that end in rows of norm 1.
        teacher_temperature: T_t, first and last; it rises over the fraction `warmup` of training.
        momentum: share of the teacher that stays in a step; rises to 1 by a cosine.
        frozen: fraction of training for which the prototypes stand still.
        masked: share of a crop's patches that is hidden, least and most.
        share: share of the large crops that hide any.
        block: patches in a rectangle at least (16 of 14 x 14 patches, 4 of 8 x 8).
        views: crops; the teacher sees those of the first size. None: the paper's, small ones 3/7 as wide.

    Raises:
        ValueError: the backbone is no vision transformer, an image has one crop, a temperature is not
            positive, or a share is out of its range.
    """

    family = "distillation"
    unit = "nats"
    takes = ("vit",)
    tiny: ClassVar[dict[str, Any]] = {"prototypes": 12, "width": 24, "bottleneck": 8, "block": 2}

    def __init__(
        self, backbone: ImageBackbone, prototypes: int = 8192, width: int = 2048, bottleneck: int = 256,
        temperature: float = 0.1, teacher_temperature: Sequence[float] = (0.04, 0.07), warmup: float = 0.1,
        momentum: float = 0.996, frozen: float = 0.01, masked: Sequence[float] = (0.1, 0.5),
        share: float = 0.5, block: int = 16, views: Views | None = None,
    ):  # fmt: skip
        super().__init__(
            backbone, prototypes, width, bottleneck, temperature, teacher_temperature, warmup, momentum,
            frozen, views, partial(dino, count=10, scale=(0.25, 1.0), local_scale=(0.05, 0.25)),
        )  # fmt: skip
        self.hide = Hidden(backbone.dim, masked, share, block)
        self.centre, self.patch_centre = Centre(prototypes), Centre(prototypes)

    def forward(self, batch: Batch) -> Loss:
        crops = self.views(batch.x)  # (V_size * B, C, h, w) for each size
        _, student, patches, at, valid = self.score_hidden(crops, len(batch.x), self.hide)
        with torch.no_grad():
            backbone, project, compare = self.teacher
            whole = backbone(crops[0])
            teacher, of_patches = compare(project(whole.pooled)), compare(project(whole.tokens.flatten(0, 1)))
            q = self.target(teacher, self.centre)  # (G * B, K)
            hidden = take(of_patches.unflatten(0, (len(at), -1)), at).flatten(0, 1)  # (G * B * M, K)
            t_t = self.teacher_temperature(self.t)
            q_patches = centre_softmax(hidden, self.patch_centre.value, t_t).unflatten(0, at.shape)
        self.patch_centre.stash(of_patches)
        crop = distillation(student, q, len(batch.x), self.temperature)
        patch = patch_distillation(patches, q_patches, valid, self.temperature)
        parts = {"crop": crop.detach(), "patch": patch.detach(), "teacher_entropy": entropy(q)}
        return Loss(crop + patch, parts)

    def advance(self, t: float) -> None:
        super().advance(t)
        self.centre.flush()
        self.patch_centre.flush()

    def chance(self, rows: int) -> float:
        """ln K of crops, and of the patches of those crops that hide any, where all prototypes are alike."""
        return (1 + self.hide.share) * super().chance(rows)
