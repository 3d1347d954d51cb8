"""What objectives share in which a trained backbone teaches a new one, from images without labels."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.heads import mlp, scoring_type
from ssl_zoo.norm import BatchNorm1d
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.objectives._shown import Pairs, cosines
from ssl_zoo.teacher import Frozen
from ssl_zoo.views.recipes import HALF
from ssl_zoo.views.view import View


def opened(teacher: Backbone | str | Path) -> ImageBackbone:
    """The teacher itself, or the backbone of a run, or of a folder that `ssl_zoo.save` wrote.

    Raises:
        ValueError: there is no backbone, or it does not read images.
    """
    if isinstance(teacher, (str, Path)):
        try:
            teacher = hub.load(teacher)
        except hub.HubError as error:
            raise ValueError(f"teacher={teacher}: {error}") from error
    if not isinstance(teacher, ImageBackbone):
        what = f"reads {teacher.modality}s" if isinstance(teacher, Backbone) else "is no backbone"
        raise ValueError(
            f"the teacher reads images, and {type(teacher).__name__} {what}: name the folder of a run on "
            "images, or take any image backbone (ssl_zoo.backbone(module) makes one of a module)"
        )
    return teacher


def fitted(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) in the size (height, width) that a backbone reads: bilinear, antialiased."""
    same = tuple(x.shape[-2:]) == tuple(size)
    return x if same else F.interpolate(x, size=size, mode="bilinear", antialias=True)


class Taught(Objective[ImageBackbone]):
    """Student and teacher read the same views; a head brings the student's pooled features to the teacher's.

    The teacher's pooled features are standardised, each over the rows of all processes (a batch norm without
    parameters): features behind a ReLU all point the same way otherwise, and large ones hide the others. The
    teacher is no part of a checkpoint (`teacher.Frozen`), and is not exported.

    Args:
        backbone: any vision backbone, the student.
        teacher: any trained image backbone, of any architecture, or the folder of a run or of an exported
            backbone. It is used itself and frozen.
        width: of the head's inner layer; 0: the head is one linear layer.
        view: images to training crops, in the larger of both image sizes, from which the other is made;
            default: those of MoCo v2.

    Raises:
        ValueError: a backbone or a teacher that reads no images, no backbone in that folder, images of
            different shape for student and teacher, or a teacher that is the student.
    """

    whole_batch = True

    def __init__(
        self, backbone: ImageBackbone, teacher: ImageBackbone | str | Path, width: int, view: View | None
    ):
        super().__init__(backbone)
        guide = opened(teacher)
        if guide is backbone:
            raise ValueError("the teacher is the student itself: give it a copy, or another backbone")
        (high, wide), (h, w) = guide.image_size, backbone.image_size
        if high * w != wide * h:
            raise ValueError(
                f"the teacher reads images of {high}x{wide} pixels and the student of {h}x{w}: both see the "
                "same crops, so build one of them for images of the other's shape (image_size)"
            )
        self.view = view or View((max(high, h), max(wide, w)), (0.2, 1.0), **HALF)
        self.teacher, self.teacher_size = Frozen(guide), (high, wide)
        self.standardise = BatchNorm1d(guide.dim, affine=False)
        self.project = mlp(backbone.dim, *[width] * (width > 0), guide.dim)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the head makes of views (B, C, H, W), and the teacher's standardised features: (B, D) each."""
        drawn = self.project(self.backbone(fitted(x, self.backbone.image_size)).pooled)
        with torch.no_grad():
            pooled = self.teacher(fitted(x, self.teacher_size)).pooled
            target = self.standardise(pooled.to(scoring_type(pooled)))
        return drawn, target

    def show(self, batch: Batch) -> Pairs:
        x = self.view(batch.x)
        note = "How alike what the student says of an image (row) and the teacher of another (column) are."
        return Pairs(note, x, x, cosines(*self.read(x)))
