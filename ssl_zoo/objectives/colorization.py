"""Colourisation (Zhang et al. 2016, arXiv:1603.08511): which colours does a grey image have?

The network sees the lightness of an image, and says of each cell in which of Q bins its colour (a, b) lies.
The target Z spreads over the 5 bins nearest to the mean colour of the cell, by a Gaussian (section 2.1):

    L = mean over cells of w(nearest bin) (- sum_q Z_q log softmax(W f + c)_q)
    w(q) = 1 / ((1 - rebalance) p_q + rebalance / Q), divided so that sum_q p_q w(q) = 1          (eq. 4)

p is the share of each bin in the data: dull colours are common, and count for less. The paper counts ImageNet
and smooths; here a running mean over batches is kept, which starts even. Bins are those nearest to any colour
of a screen, 261 at a step of 10; the paper's list has 313. Each token of the last layer tells its own cells;
the paper tells cells of 4 x 4 pixels, by layers that widen the map again. Published training: Adam, lr 3e-5.
The backbone sees grey alone, and is measured on colours that it never saw.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact
from ssl_zoo.memory import Centre
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pictures
from ssl_zoo.tokens import patchify, unpatchify
from ssl_zoo.views.lab import colour_bins, lab_to_rgb, nearest_bins, rgb_to_lab
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


def rarity(p: Tensor, rebalance: float) -> Tensor:
    """w of bins (Q,) that have the shares p (Q,) of all cells."""
    weight = 1 / ((1 - rebalance) * p + rebalance / len(p))
    return weight / (p * weight).sum()


@exact
def colour_loss(logits: Tensor, at: Tensor, share: Tensor, weight: Tensor) -> Tensor:
    """L of logits (N, Q), the nearest bins and their shares (N, 5), and the weights of bins (Q,)."""
    return -(weight[at[:, 0]] * (share * logits.log_softmax(1).gather(1, at)).sum(1)).mean()


class Colorization(Objective[ImageBackbone]):
    """Args:
        backbone: any vision backbone with square cells.
        cell: side in pixels of the squares whose mean colour is told; at most the side of a token.
        step, sigma: of the grid of bins, and of the Gaussian around a colour, in units of a and b.
        rebalance: share of an even distribution in p; 1: all colours count alike.
        view: images to training crops; default: random resized crop and flip.

    Raises:
        ValueError: a number out of its range, cells that do not fill a token, or images of one channel.
    """

    family = "pretext"
    unit = "nats, weighted by rarity"
    takes = ("vit", "cnn")
    tiny: ClassVar[dict[str, Any]] = {"cell": 4, "step": 60.0, "sigma": 30.0}
    bins: Tensor

    def __init__(
        self, backbone: ImageBackbone, cell: int = 16, step: float = 10.0, sigma: float = 5.0,
        rebalance: float = 0.5, view: View | None = None
    ):  # fmt: skip
        super().__init__(backbone)
        if min(cell, step, sigma) <= 0 or not 0 <= rebalance <= 1:
            raise ValueError(f"{cell=}, {step=}, {sigma=} must be above 0, {rebalance=} in [0, 1]")
        (high, wide), (rows, columns) = backbone.image_size, backbone.grid(*backbone.image_size)
        self.cell, self.side = min(cell, high // rows), max(high // rows // cell, 1)  # of a cell, of a token
        if (rows * self.side * self.cell, columns * self.side * self.cell) != (high, wide):
            raise ValueError(f"{cell=} does not divide tokens of {high / rows:g}x{wide / columns:g} pixels")
        self.sigma, self.rebalance, self.view = sigma, rebalance, view or crop_flip(backbone.image_size)
        self.register_buffer("bins", colour_bins(step).clone(), persistent=False)
        self.tell = nn.Linear(backbone.dim, self.side**2 * len(self.bins))
        self.seen = Centre(len(self.bins), 0.99)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W) -> L*a*b*, colours of the cells of all tokens (B * N * side^2, 2), logits."""
        lab = exact(rgb_to_lab)(x)
        tokens = self.backbone((lab[:, :1] / 100).expand_as(x)).tokens  # (B, N, D)
        ab = patchify(F.avg_pool2d(lab[:, 1:], self.cell), self.side).reshape(-1, 2)
        return lab, ab, exact(F.linear)(tokens, self.tell.weight, self.tell.bias).reshape(len(ab), -1)

    def forward(self, batch: Batch) -> Loss:
        _, ab, logits = self.read(self.view(batch.x))
        at, share = exact(nearest_bins)(ab, self.bins, self.sigma)
        p = self.seen.value + (1 - self.seen.value.sum()) / len(self.bins)
        loss = colour_loss(logits, at, share, rarity(p, self.rebalance))
        found = torch.zeros_like(p).index_add(0, at.flatten(), share.flatten().to(p.dtype))
        self.seen.stash(found[None] / len(ab))
        return Loss(loss, {"accuracy": (logits.argmax(1) == at[:, 0]).float().mean()})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.seen.flush()

    def show(self, batch: Batch) -> Pictures:
        lab, _, logits = self.read(x := self.view(batch.x))
        told = (logits / 0.38).softmax(1) @ self.bins  # the paper's annealed mean, eq. 5: (B * cells, 2)
        told, size = told.reshape(len(x), -1, 2 * self.side**2), [side // self.cell for side in x.shape[2:]]
        colours = F.interpolate(unpatchify(told, self.side, 2, *size), x.shape[2:], mode="bilinear")
        grey, drawn = (lab[:, :1] / 100).expand_as(x), lab_to_rgb(torch.cat([lab[:, :1], colours], 1))
        note = "What the network sees of a training crop, and the colours that it gives it."
        return Pictures(note, {"crop": x, "seen": grey, "drawn": drawn})
