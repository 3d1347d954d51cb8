"""Supervised training, the reference that no label-free objective has to beat: cross-entropy on true labels.

    L = - mean_i log p(y_i | x_i)

It reads what the others may not, and stands beside them on a board: the same backbone, data, views and
budget, trained with every label.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ssl_zoo.backbones._base import Backbone, ImageBackbone, outside
from ssl_zoo.heads import classification
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Choices
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


class Supervised(Objective[Backbone]):
    """Args:
        backbone: any vision backbone.
        classes: how many there are.
        view: images to training crops; default: random resized crop of at least 60 % and flip.

    Raises:
        ValueError: the backbone is not for images; from `forward`, rows without labels, or with
            those of other classes (found on a CPU alone; a GPU would be waited for).
    """

    family = "reference"
    unit = "nats"
    takes = ("vit", "cnn")
    reads = ("x", "y")
    tiny: ClassVar[dict[str, Any]] = {"classes": 3}

    def __init__(self, backbone: Backbone, classes: int, view: View | None = None):
        super().__init__(backbone)
        assert isinstance(backbone, ImageBackbone)
        self.view = view or crop_flip(backbone.image_size, scale=(0.6, 1.0))
        self.classify = nn.Linear(backbone.dim, classes)

    def forward(self, batch: Batch) -> Loss:
        assert batch.y is not None  # as `reads` says
        y, classes = batch.y.long(), self.classify.out_features
        if batch.y.is_floating_point() or y.shape != batch.x.shape[:1]:
            raise ValueError(f"labels are {len(batch.x)} whole numbers, not {batch.y.dtype} {tuple(y.shape)}")
        if (wrong := outside(y, classes)) is not None:
            raise ValueError(
                f"the rows have a label of {wrong}, and this objective tells {classes} classes apart, 0 to "
                f"{classes - 1}: set objective.classes to how many there are"
            )
        pooled = self.backbone(self.view(batch.x)).pooled  # (B, D)
        loss, accuracy = classification(pooled, self.classify.weight, self.classify.bias, y)
        return Loss(loss, {"accuracy": accuracy.detach()})

    def show(self, batch: Batch) -> Choices | None:
        if batch.y is None:
            return None
        x = self.view(batch.x)
        p = self.classify(self.backbone(x).pooled).float().softmax(1)
        names = tuple(f"class {i}" for i in range(p.shape[1]))
        return Choices(
            "Training crops, and the probability given to each class.", x, names, p, batch.y.long()
        )
