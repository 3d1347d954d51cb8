"""What the objectives of images and captions share: two towers, and the way from each into one space."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.distributed import world
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pairs
from ssl_zoo.views.recipes import crop
from ssl_zoo.views.view import View


class Towers(Objective[ImageBackbone]):
    """An image tower and a text tower that end in one space, in which an image lies near its own caption.

    Vectors are linear in `Features.pooled`, which for a text is the mean of its tokens (CLIP takes the last).

    Args:
        backbone: of images; it is the one that is measured.
        text: the tower of captions, exported as "text". From the command, its vocabulary is that of a
            tokenizer of the captions.
        out: width of the shared space.
        view: images to training crops; default: 90 % of the area or more, of which nothing is mirrored, as
            captions may say left and right.

    Raises:
        ValueError: `text` reads no text; from `forward`, a batch of one pair.
    """

    reads = ("x", "other")
    layout = "document"
    whole_batch = True
    starts: ClassVar[dict[str, float]]  # learnt numbers, which do not decay
    tiny: ClassVar[dict[str, Any]] = {"text": "transformer", "out": 8}
    log_scale: Tensor

    def __init__(self, backbone: ImageBackbone, text: Backbone, out: int = 512, view: View | None = None):
        super().__init__(backbone)
        if text.modality != "text":
            raise ValueError(f"the second tower reads captions; {type(text).__name__} reads {text.modality}s")
        self.text = text
        self.view = view or crop(backbone.image_size, scale=(0.9, 1.0))
        self.image_out = nn.Linear(backbone.dim, out, bias=False)
        self.text_out = nn.Linear(text.dim, out, bias=False)
        for name, value in self.starts.items():
            self.register_parameter(name, nn.Parameter(torch.tensor([value])))

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
        return Loss(loss, {"pair_found": found.detach(), "scale": self.log_scale.detach().exp().squeeze()})

    @abstractmethod
    def score(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of projections of images and of captions, (B, out) each, and the share of pairs found."""

    def show(self, batch: Batch) -> Pairs | None:
        if batch.other is None:
            return None
        ids, segments = batch.other.x, batch.other.segments
        u = self.image_vectors(self.backbone(self.view(batch.x)).pooled)
        v = self.text_vectors(self.text(ids, segments).pooled)
        note = "Images and their captions, and how near they lie in the shared space."
        return Pairs(note, batch.x, ids if segments is None else ids.masked_fill(segments < 0, -1), u @ v.T)

    def export(self) -> dict[str, Backbone]:
        return {"backbone": self.backbone, "text": self.text}
