"""CLIP (Radford et al. 2021, arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343).

An image tower and a text tower end in one space, in which an image lies near its own caption. With u_i and
v_i the unit vectors of image and caption i of the N pairs of the undivided batch:

    CLIP    L = (CE(e^s u v^T, i) + CE(e^s v u^T, i)) / 2,   s learnt from ln(1 / 0.07), never above ln 100
    SigLIP  L = -1/N sum_ij log sigmoid(y_ij (e^s u_i . v_j + b)),   y = 1 on the diagonal and -1 elsewhere,
            s learnt from ln 10 and b from -10

Each process scores its own rows against everybody's. Vectors are linear in `Features.pooled`, which for a
text is the mean of its tokens (CLIP takes the last one).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.contrast import clip_loss, siglip_loss
from ssl_zoo.distributed import world
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.views.recipes import crop
from ssl_zoo.views.view import View


class Towers(Objective[ImageBackbone]):
    """Args:
        backbone: of images; it is the one that is measured.
        text: the tower of captions, exported as "text". From the command, its vocabulary is that of a
            tokenizer of the captions.
        out: width of the shared space.
        view: of the images; None crops 90 % of the area or more, and mirrors nothing, as captions may say
            left and right.

    Raises:
        ValueError: `text` reads no text.
    """

    reads = ("x", "other")
    layout = "document"
    whole_batch = True
    starts: ClassVar[dict[str, float]]  # learnt scalars, which do not decay
    tiny: ClassVar[dict[str, Any]] = {"text": "transformer", "out": 8}
    log_scale: Tensor

    def __init__(self, backbone: ImageBackbone, text: Backbone, out: int = 512, view: View | None = None):
        super().__init__(backbone)
        if text.modality != "text":
            raise ValueError(f"the second tower reads captions; {type(text).__name__} reads {text.modality}s")
        self.text = text
        self.view = view or crop(scale=(0.9, 1.0))
        self.image_out = nn.Linear(backbone.dim, out, bias=False)
        self.text_out = nn.Linear(text.dim, out, bias=False)
        for name, value in self.starts.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))

    def image_vectors(self, pooled: Tensor) -> Tensor:
        """`Features.pooled` of images (B, D) -> unit vectors (B, out)."""
        return F.normalize(self.image_out(pooled), dim=1)

    def text_vectors(self, pooled: Tensor) -> Tensor:
        """The same of captions."""
        return F.normalize(self.text_out(pooled), dim=1)

    def forward(self, batch: Batch) -> Loss:
        if len(batch.x) * world() < 2:
            raise ValueError("a contrast compares pairs, and here is one alone: raise batch_size")
        assert batch.other is not None  # the base class has seen to it
        u = self.image_out(self.backbone(self.view(batch.x)).pooled)
        v = self.text_out(self.text(batch.other.x, batch.other.segments).pooled)
        loss, found = self.score(u, v)
        return Loss(loss, {"pair_found": found.detach(), "scale": self.log_scale.detach().exp()})

    @abstractmethod
    def score(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of pairs of projections (B, out), and how often the pair is found."""

    def export(self) -> dict[str, Backbone]:
        return {"backbone": self.backbone, "text": self.text}


class CLIP(Towers):
    """A softmax over the captions of the batch, and one over its images. Arguments are those of `Towers`."""

    family = "pairs"
    takes = ("vit", "cnn")
    starts: ClassVar[dict[str, float]] = {"log_scale": math.log(1 / 0.07)}

    def score(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return clip_loss(u, v, self.log_scale)

    @torch.no_grad()
    def advance(self, t: float) -> None:
        super().advance(t)
        self.log_scale.clamp_(max=math.log(100))


class SigLIP(Towers):
    """A yes or no for each image with each caption of the batch. Arguments are those of `Towers`."""

    family = "pairs"
    takes = ("vit", "cnn")
    starts: ClassVar[dict[str, float]] = {"log_scale": math.log(10), "bias": -10.0}
    bias: Tensor

    def score(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return siglip_loss(u, v, self.log_scale, self.bias)
