"""Contrastive learning: SimCLR (Chen et al. 2020) on images, SimCSE (Gao et al. 2021) on text.

Two views of each sample are drawn together and pushed from all others of the global batch, by the
NT-Xent loss (SimCLR, eq. 1; ssl_zoo/contrast.py): with z the normalised projections of 2N views,

    L = - mean_i log( exp(z_i . z_i+ / T) / sum over k != i of exp(z_i . z_k / T) )

Views of an image are random crops and colours; views of a text are two draws of the backbone's own
dropout (SimCSE, §3). The projection head is that of SimCLR's paper for both: SimCLR's code has batch norms in
it besides, and SimCSE has one layer with a tanh on the first token, and in its denominator the second views
alone.

Published training: SimCLR with LARS, lr 0.3 x batch / 256, weight decay 1e-6, batch 4096.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.contrast import nt_xent
from ssl_zoo.heads import mlp
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pairs, cosines, dropping
from ssl_zoo.views.recipes import simclr
from ssl_zoo.views.view import View


class SimCLR(Objective[Backbone]):
    """Args:
        backbone: any vision backbone, or a text backbone with dropout.
        temperature: of the softmax over the batch (SimCLR: 0.1 on ImageNet, 0.5 on CIFAR-10;
            SimCSE: 0.05).
        width, out: widths of the projection head, Linear-ReLU-Linear (SimCLR, §4.2).
        view: images to views; default: the paper's recipe. Text takes none.

    Raises:
        ValueError: a text backbone without dropout (its two views would be the same), a view for text, or a
            temperature that is not positive; from `forward`, a batch of one sample.
    """

    family = "contrastive"
    unit = "nats"
    takes = ("vit", "cnn", "transformer", "encoder", "decoder")
    layout = "document"
    whole_batch = True
    tiny: ClassVar[dict[str, Any]] = {"width": 24, "out": 8}

    def __init__(
        self,
        backbone: Backbone,
        temperature: float = 0.1,
        width: int = 2048,
        out: int = 128,
        view: View | None = None,
    ):
        super().__init__(backbone)
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        if backbone.modality == "text":
            drops = [m.p for m in backbone.modules() if isinstance(m, nn.Dropout)]
            if not any(drops):
                raise ValueError(
                    "SimCLR on text takes dropout as the view, and this backbone has none; "
                    "set backbone.dropout=0.1 (own transformer) or take a model whose config has dropout"
                )
            if view is not None:
                raise ValueError("the views of a text are two draws of dropout; leave `view` out")
        else:
            assert isinstance(backbone, ImageBackbone)
            view = view or simclr(backbone.image_size)
        self.view = view
        self.temperature = temperature
        self.project = mlp(backbone.dim, width, out)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Both views of all samples, (2 B, ...), with their segments."""
        if self.view is not None:
            return torch.cat([self.view(batch.x), self.view(batch.x)]), None
        # Two times the same ids (2 B, T): dropout makes the difference.
        return batch.x.repeat(2, 1), None if batch.segments is None else batch.segments.repeat(2, 1)

    def forward(self, batch: Batch) -> Loss:
        x, segments = self.views(batch)
        loss, found = nt_xent(self.project(self.backbone(x, segments).pooled), self.temperature)
        return Loss(loss, {"pair_found": found.detach()})

    def chance(self, rows: int) -> float:
        return math.log(2 * rows - 1)

    def show(self, batch: Batch) -> Pairs:
        x, segments = self.views(batch)
        with dropping(self):
            z = self.project(self.backbone(x, segments).pooled)
        what = "views of each image" if self.view else "readings of each text with different dropout"
        note = f"Two {what}, and how alike their projections are: the diagonal should be high, the rest low."
        first, second = x.chunk(2)
        return Pairs(note, first, second, cosines(*z.chunk(2)))
