"""Masked siamese nets: MSN (Assran et al. 2022, arXiv:2204.07141, eq. 1 to 3) and PMSN (arXiv:2210.07277).

A student sees crops of an image, the anchors, large ones without some patches. It predicts what a slow
average of it says of a whole large crop, the target, as a distribution over K prototypes that both share:

    p  = softmax(cos(student(anchor), prototypes) / T_s)
    p+ = softmax(cos(average(target), prototypes) / T_s)^(1 / T), normed; MSN: balanced, 3 rounds of Sinkhorn
    L  = mean over anchors and images of - sum_k p+_k log p_k + w KL(mean p || prior),  prior_k ~ k^-power

The last term is ln K - H(mean p) for MSN, power 0, with the mean over the global batch; lightly's PMSN has
KL(prior || mean p). Balance asks for equal shares, so with a power there is none (peers balance; the authors
published no PMSN). Heads read pooled tokens; theirs, a class token. Published: AdamW, 1e-3, batch 1024.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.assign import entropy, sharpen, sinkhorn
from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.distributed import gather
from ssl_zoo.heads import Prototypes, bottleneck_head, exact
from ssl_zoo.objectives._base import Batch, Loss, Tune
from ssl_zoo.objectives._distilled import thinned
from ssl_zoo.objectives._joint import MultiCrop, crop_pairs
from ssl_zoo.objectives._shown import Pairs
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.views.recipes import msn
from ssl_zoo.views.view import Views


@exact
def siamese(anchors: Tensor, q: Tensor, prior: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Both terms of L, of cosines of V anchors (V * B, K) with targets q (B, K), and a prior (K,)."""
    log_p = (anchors / temperature).log_softmax(1)
    mean = gather(log_p.exp().mean(0, keepdim=True)).mean(0)  # (K,)
    return -(q * log_p.unflatten(0, (-1, len(q)))).sum(2).mean(), torch.xlogy(mean, mean / prior).sum()


class MSN(MultiCrop):
    """Args:
        backbone: a vision transformer. prototypes, temperature, sharpening: K, T_s and T.
        width, out: of the head, three linear layers with batch norms over all anchors and GELU.
        masked: share of patches that large anchors lack. weight, power: w; the prior's exponent (PMSN: 0.25).
        momentum: share of the average that stays in a step; rises to 1 on a line.
        views: crops; the first one is the target. None: the paper's, small ones 3/7 as wide.

    Raises:
        ValueError: a CNN, less than two crops of the first size, or a number out of its range.
    """

    family, unit, takes = "clustering", "nats", ("vit",)
    tiny: ClassVar[dict[str, Any]] = {"prototypes": 12, "width": 24, "out": 8, "power": 0.25}
    prior: Tensor

    def __init__(
        self, backbone: ImageBackbone, prototypes: int = 1024, width: int = 2048, out: int = 256,
        temperature: float = 0.1, sharpening: float = 0.25, masked: float = 0.15, weight: float = 1.0,
        power: float = 0.0, momentum: float = 0.996, views: Views | None = None,
    ):  # fmt: skip
        super().__init__(backbone, views, msn)
        if not 0 < masked < 1 or min(temperature, sharpening) <= 0 or min(weight, power) < 0:
            above = f"{temperature=} and {sharpening=} > 0, {weight=} and {power=} >= 0"
            raise ValueError(f"{masked=} is in (0, 1), {above}")
        if self.large < 2:
            raise ValueError("MSN takes a target and anchors of one size first, and here is one such crop")
        self.masked, self.weight, self.balanced = masked, weight, not power
        self.temperature, self.sharpening = temperature, sharpening
        self.register_buffer("prior", (-power * torch.arange(1.0, prototypes + 1).log()).softmax(0), False)
        self.project = bottleneck_head(backbone.dim, width, out, "batch")
        self.compare = Prototypes(out, prototypes)
        self.teacher, self.momentum = Teacher(backbone, self.project), ramp(momentum, 1.0, "linear")

    def forward(self, batch: Batch) -> Loss:
        large, *small = self.views(batch.x)  # (V_large * B, C, H, W), (V_small * B, C, h, w)
        seen = thinned(self.backbone, large[len(batch.x) :], len(batch.x), self.masked)
        anchors = torch.cat([seen, *(self.backbone(x).pooled for x in small)])  # (V * B, D)
        with torch.no_grad():
            slow, project = self.teacher
            target = self.compare(project(slow(large[: len(batch.x)]).pooled)) / self.temperature
            sharp = sharpen(target.softmax(1), self.sharpening)  # (B, K)
            q = sinkhorn(sharp.clamp_min(1e-37).log(), 1.0) if self.balanced else sharp
        match, far = siamese(self.compare(self.project(anchors)), q, self.prior, self.temperature)
        told = {"match": match.detach(), "from_prior": far.detach(), "target_entropy": entropy(q)}
        return Loss(match + self.weight * far, told)

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))

    def export(self) -> dict[str, Backbone]:
        return {"backbone": self.teacher[0]}  # pyright: ignore[reportReturnType]

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        return Tune(decay=0.0) if name.startswith("compare.") else Tune()

    def chance(self, rows: int) -> float:
        """ln K, and how far equal shares are from the prior."""
        even = math.log(len(self.prior))
        return even - self.weight * (even + self.prior.log().mean().item())

    def show(self, batch: Batch) -> Pairs:
        slow, project = self.teacher
        return crop_pairs(self.views(batch.x), len(batch.x), slow, project, "the teacher's rows")
