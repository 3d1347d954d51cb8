"""Predicting the clusters of hidden patches: CAPI (Darcet et al. 2025, arXiv:2502.08769, section 3).

A linear layer on a teacher's patches of a whole crop scores K clusters, balanced over the batch at each place
by itself, and learns from that. A student predicts, from one block, the clusters of some hidden patches:

    s_i = W n(teacher(x)_i) + b,   q_i = sinkhorn(s_i / T_t),   p_i = cos(predict(student(x), i), C)
    L   = mean over all i of - sum_k q_ik log softmax(s_i / T_s)_k
        + mean over some hidden i of - sum_k q_ik log softmax(p_i / T_s)_k

The first term trains W and b alone. In the authors' code C has learnt norms, too, positions are rotary, not
sines, and there are registers. Published: AdamW, lr 1e-3 (W, b: 5e-4), weight decay 0.1, batch 16,384.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.assign import entropy, sinkhorn
from ssl_zoo.backbones._base import Backbone, ImageBackbone, TokenBackbone
from ssl_zoo.decoders import CrossPredictor, grid_positions
from ssl_zoo.heads import Prototypes, exact
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective, Tune
from ssl_zoo.objectives._distilled import agreement
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.tokens import take
from ssl_zoo.views.blocks import rolled_block
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class CAPI(Objective[TokenBackbone]):
    """Args:
        backbone: a vision transformer; a CNN cannot skip the patches it does not see.
        clusters: K; balance needs about as many images in a batch.
        masked, asked: share of patches that is hidden, and share of those that is predicted.
        width, depth, heads: the predictor's.
        temperature, teacher_temperature: T_s and T_t.
        momentum, warmup: least share of the teacher that stays in a step; from 1, and back to 1.
        view: images to training crops; default: the paper's random resized crop, from 0.6, and flip.

    Raises:
        ValueError: the backbone is no vision transformer, or a share is out of its range.
    """

    family = "clustering"
    unit = "nats"
    takes = ("vit",)
    whole_batch = True
    tiny: ClassVar[dict[str, Any]] = {"clusters": 12, "width": 16, "depth": 1, "heads": 2}
    position: Tensor

    def __init__(
        self, backbone: TokenBackbone, clusters: int = 16_384, masked: float = 0.65, asked: float = 0.05,
        width: int = 1024, depth: int = 12, heads: int = 16, temperature: float = 0.12,
        teacher_temperature: float = 0.06, momentum: float = 0.999, warmup: float = 0.1,
        view: View | None = None,
    ):  # fmt: skip
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        self.grid = backbone.grid(*backbone.image_size)
        hidden = int(masked * (cells := self.grid[0] * self.grid[1]))
        self.keep, self.asked = cells - hidden, round(asked * hidden) or 1
        if not 0 < hidden < cells or not 0 < asked <= 1:
            raise ValueError(f"{masked=} hides {hidden} of {cells} (some, not all), {asked=} is in (0, 1]")
        self.view = view or crop_flip(backbone.image_size, (0.6, 1.0))
        self.temperature, self.sharp = temperature, teacher_temperature
        self.widen, self.blank = nn.Linear(backbone.dim, width), nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("position", grid_positions(width, *self.grid), persistent=False)
        self.predict, self.compare = CrossPredictor(width, depth, heads), Prototypes(width, clusters)
        self.cluster, self.teacher = nn.Linear(backbone.dim, clusters), Teacher(backbone)
        nn.init.normal_(self.cluster.weight)
        nn.init.zeros_(self.cluster.bias)
        self.falls, self.rises = ramp(1.0, momentum, "linear", warmup), ramp(momentum, 1.0)

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        noise = rand(len(x), 3 + len(self.position), device=x.device)
        seen = rolled_block(noise[:, :3], self.grid, self.keep)  # (B, keep)
        asked = noise[:, 3:].scatter(1, seen, 2.0).argsort(1)[:, : self.asked]  # (B, asked), all hidden
        code = self.backbone.encode(take(self.backbone.embed(x), seen), seen).tokens
        drawn = self.predict(self.blank + self.position[asked], self.widen(code) + self.position[seen])
        with torch.no_grad():
            whole = exact(F.normalize)(self.teacher[0](x).tokens, dim=2)  # (B, N, D)
        scores = exact(F.linear)(whole, self.cluster.weight, self.cluster.bias)
        q = sinkhorn(scores, self.sharp)  # (B, N, K)
        guesses, wanted = self.compare(drawn.flatten(0, 1)), take(q, asked).flatten(0, 1)  # (B * asked, K)
        patch, own = agreement(guesses, wanted, self.temperature), agreement(scores, q, self.temperature)
        parts = {"patch": patch.detach(), "cluster": own.detach(), "target_entropy": entropy(wanted)}
        return Loss(patch + own, parts)

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(max(self.falls(t), self.rises(t)))

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        return Tune(0.5, 0.01) if name == "cluster.weight" else Tune(0.5 if name == "cluster.bias" else 1.0)

    def export(self) -> dict[str, Backbone]:
        return {"backbone": self.teacher[0]}  # pyright: ignore[reportReturnType]

    def chance(self, rows: int) -> float:
        return 2 * math.log(len(self.compare.weight))
