"""Instance discrimination: each image is a class of its own (Wu et al. 2018, arXiv:1805.01978, eq. 2).

With f_i the projection of a view of image i, of length 1, and v a memory of one such row for every image of
the training data,

    L = - mean_i log( exp(f_i . v_i / T) / (exp(f_i . v_i / T) + sum over j of exp(f_i . v_j / T)) )
    v_i <- (m v_i + (1 - m) f_i) / its length, after each step

over all other images j or, here, over K of them drawn for each step. The paper approximates the sum by
noise-contrastive estimation with K draws for each image; the softmax has no normalising constant to estimate,
draws once for a whole batch, and is what MoCo's authors compare with as "memory bank" (He et al. 2020, table
1). m stands for the paper's proximal term, as in its code.

The code's memory starts with random rows, which are false targets for an epoch. Here an image that was not
seen yet has f_i itself, a constant, for v_i, and images that were not seen are not drawn.
Published training: SGD, lr 0.03, weight decay 1e-4, batch 256, 200 epochs.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.contrast import info_nce, unit
from ssl_zoo.memory import Memory
from ssl_zoo.noise import rand_shared
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.views.recipes import instance
from ssl_zoo.views.view import View


class InstanceDiscrimination(Objective[ImageBackbone]):
    """Args:
        backbone: any vision backbone.
        rows: how many images the training data has. The trainer says how many, if it is another number.
        out: of the linear projection, and width of a row of the memory: `rows` x `out` float32 numbers.
        negatives: images drawn for each step, K, with repetition; None: all.
        momentum: m, share of a row that stays when its image is seen, in [0, 1).
        temperature: T.
        view: images to views; default: the paper's.

    Raises:
        ValueError: the backbone is not for images, a temperature that is not positive, no negatives, or a
            momentum out of range; from `forward`, an image whose number is not below `rows` (on a CPU).
    """

    family = "pretext"
    unit = "nats"
    takes = ("vit", "cnn")
    reads = ("x", "index")
    tiny: ClassVar[dict[str, Any]] = {"rows": 12, "out": 8, "negatives": 6}

    def __init__(
        self,
        backbone: ImageBackbone,
        rows: int,
        out: int = 128,
        negatives: int | None = 4096,
        momentum: float = 0.5,
        temperature: float = 0.07,
        view: View | None = None,
    ):
        super().__init__(backbone)
        if temperature <= 0 or not 0 <= momentum < 1 or (negatives is not None and negatives < 1):
            raise ValueError(
                "temperature is positive, momentum in [0, 1), and negatives are 1 or more, not "
                f"{temperature}, {momentum} and {negatives}"
            )
        self.view = view or instance(backbone.image_size)
        self.negatives, self.momentum, self.temperature = negatives, momentum, temperature
        self.project = nn.Linear(backbone.dim, out)
        self.memory = Memory(rows, out)

    def drawn(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of other images (K,), and which of them each image of `index` (B,) is told from (B, K)."""
        count = len(self.memory.rows)
        if self.negatives is None:
            numbers = torch.arange(count, device=index.device)
        else:
            noise = rand_shared(self.negatives).to(index.device, non_blocking=True)
            numbers = (noise * count).long().clamp_max(count - 1)  # a number just below 1 may be rounded up
        return numbers, self.memory.filled[numbers] & (numbers != index[:, None])

    def forward(self, batch: Batch) -> Loss:
        index = batch.index
        assert index is not None  # as `reads` says
        f = unit(self.project(self.backbone(self.view(batch.x)).pooled))  # (B, out)
        held, seen = self.memory.read(index)
        own = torch.where(seen[:, None], held, f.detach())
        numbers, valid = self.drawn(index)
        loss, found = info_nce(f, own, self.memory.rows[numbers], valid, self.temperature)
        self.memory.stash(index, unit(torch.lerp(f.detach(), own, self.momentum)))
        cosine = (f.detach() * own).sum(1).mean()  # 1 in the first epoch, when no image has been seen before
        return Loss(loss, {"row_found": found.detach(), "cosine": cosine})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.memory.flush()

    def chance(self, rows: int) -> float:
        return math.log(1 + (self.negatives or len(self.memory.rows) - 1))  # once all images have been seen
