"""Feature distillation: a small network learns to say what a trained one says of an image, without labels.

The idea is FitNets' (Romero et al. 2015, arXiv:1412.6550, eq. 3): a head r on the student regresses features
of the teacher. With s and t the pooled features of both for one view, and n(t) the teacher's, standardised,

    L = mean_i 1 - cos(r(s_i), n(t_i))                              distance="cosine"
    L = mean_i mean_d h(r(s_i) - n(t_i))_d,  h the smooth L1 of 2   distance="smooth_l1"

The second is that of Wei et al. 2022 (arXiv:2205.14141, eq. 2), who standardise each token over its features;
here each feature is standardised over images. FitNets regress one hidden layer by squares, as a first stage.
Views are the same for both, as Beyer et al. 2022 (arXiv:2106.05237) advise. The teacher's classes are not
used, so that any backbone can teach any other: the head alone knows both widths.

Published training (Wei et al.): AdamW, lr 1.2e-3 for batches of 2,048, weight decay 0.05, 300 epochs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._taught import Taught
from ssl_zoo.views.view import View


@exact
def regression(
    drawn: Tensor, target: Tensor, distance: Literal["cosine", "smooth_l1"]
) -> tuple[Tensor, Tensor]:
    """The loss of predictions (N, D) of targets (N, D), and their mean cosine."""
    cosine = F.cosine_similarity(drawn, target).mean()
    return (1 - cosine if distance == "cosine" else F.smooth_l1_loss(drawn, target, beta=2.0)), cosine


class FeatureDistillation(Taught):
    """Args:
        backbone: any vision backbone, the student.
        teacher: any trained image backbone, or the folder of a run or of an exported backbone.
        distance: between the head's output and the teacher's features.
        width: of the head's inner layer; 0: the head is one linear layer.
        view: images to training crops; default: those of MoCo v2, in the larger of both image sizes.

    Raises:
        ValueError: another distance, and what `Taught` refuses.
    """

    family = "distillation"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"teacher": "cnn"}

    def __init__(
        self,
        backbone: ImageBackbone,
        teacher: ImageBackbone | str | Path,
        distance: Literal["cosine", "smooth_l1"] = "cosine",
        width: int = 0,
        view: View | None = None,
    ):
        if distance not in ("cosine", "smooth_l1"):
            raise ValueError(f"distance={distance!r} is neither cosine nor smooth_l1")
        super().__init__(backbone, teacher, width, view)
        self.distance: Literal["cosine", "smooth_l1"] = distance

    def forward(self, batch: Batch) -> Loss:
        drawn, target = self.read(self.view(batch.x))
        loss, cosine = regression(drawn, target, self.distance)
        return Loss(loss, {"cosine": cosine.detach()})
