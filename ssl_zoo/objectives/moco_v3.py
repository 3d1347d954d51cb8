"""MoCo v3: find the key of the other view in the batch (Chen, Xie & He 2021, arXiv:2104.02057, algorithm 1).

With q_v = predict(project(f(x_v))) of view v and k_v = project'(f'(x_v)) by a slow average of the network, a
constant, all of length 1, and the N keys of the batch as candidates,

    L = 2 T ( CE(q_1 K_2 / T) + CE(q_2 K_1 / T) ),    f', project' <- m f', project' + (1 - m) f, project

m rises to 1. There is no queue: batches are large. The patch embedding of a ViT stays as it was drawn at
random, without which training is unstable (section 4.1): `tune` gives it a learning rate of 0.

Both views go through the network in one batch, so that batch norms see both; the paper's code passes them one
after the other. It changes the average at the start of the next step, which is the same sequence of weights.
Published training: ViT with AdamW, lr 1.5e-4 x batch / 256, weight decay 0.1, 40 of 300 epochs of warm-up;
ResNet-50 with LARS, lr 0.3 x batch / 256, weight decay 1.5e-6; batch 4096.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import in_batch
from ssl_zoo.heads import mlp
from ssl_zoo.objectives._base import Batch, Loss, Tune
from ssl_zoo.objectives._joint import JointEmbedding, projection_std
from ssl_zoo.schedules import ramp
from ssl_zoo.teacher import Teacher
from ssl_zoo.views.recipes import byol
from ssl_zoo.views.view import Views


def both_ways(q: Tensor, k: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss of predictions q (2 N, D), of which rows i and N + i are of two views, and the share of them
    whose nearest key is their own. k: (2 N, D) keys in the same order; each prediction is of the other's."""
    (q1, q2), (k1, k2) = q.chunk(2), k.chunk(2)
    (one, found), (two, also) = in_batch(q1, k2, temperature), in_batch(q2, k1, temperature)
    return 2 * temperature * (one + two), (found + also) / 2


class MoCoV3(JointEmbedding):
    """Args:
        backbone: any vision backbone.
        width, out: of the projection head, which ends in a batch norm without scale and shift, and of the
            prediction head. A ViT's projection has three linear layers, a CNN's two; a ViT's prediction ends
            in such a batch norm too.
        momentum: share of the average that the first step leaves; it rises to 1.
        temperature: T.
        views: images to two views of one size; default: the paper's, which are BYOL's.

    Raises:
        ValueError: the backbone is not for images, a temperature that is not positive, or not two views of
            one size; from `forward`, a batch of one sample.
    """

    family = "contrastive"
    unit = "nats x 2 T"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"width": 16, "out": 8, "momentum": 0.9, "temperature": 0.5}

    def __init__(
        self,
        backbone: ImageBackbone,
        width: int = 4096,
        out: int = 256,
        momentum: float = 0.99,
        temperature: float = 0.2,
        views: Views | None = None,
    ):
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        super().__init__(backbone, views, byol)
        self.temperature, self.momentum = temperature, ramp(momentum, 1.0)
        vit = backbone.kind == "vit"
        widths = (width, width, out) if vit else (width, out)
        self.project = mlp(backbone.dim, *widths, norm="batch", last="plain_batch")
        self.predict = mlp(out, width, out, norm="batch", last="plain_batch" if vit else "plain_linear")
        self.teacher = Teacher(backbone, self.project)

    def forward(self, batch: Batch) -> Loss:
        (x,) = self.views(batch.x)  # (2 B, 3, H, W): all first views, then all second ones
        z = self.project(self.backbone(x).pooled)  # (2 B, out)
        slow, project = self.teacher
        with torch.no_grad():
            k = project(slow(x).pooled)
        loss, found = both_ways(self.predict(z), k, self.temperature)
        return Loss(loss, {"key_found": found.detach(), "projection_std": projection_std(z)})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.teacher.update(self.momentum(t))

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        """Keeps the patch embedding of a ViT still, but not without a gradient: DDP demands one."""
        return Tune(lr=0.0) if name.startswith("backbone.") and ".patch_embed." in name else Tune()

    def chance(self, rows: int) -> float:
        return 4 * self.temperature * math.log(rows)
