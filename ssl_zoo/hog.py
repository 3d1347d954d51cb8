"""Histograms of oriented gradients (Dalal & Triggs 2005) as MaskFeat's code has them, and their picture.

A histogram says in which directions a cell of an image changes, each weighted by how much. A gradient and its
opposite count as one direction, so that angles are in [0, pi). They are counted from the vertical: bin k of K
has those from k pi / K to (k + 1) pi / K, and an upright edge, across which the image changes sideways, lies
in the middle one. (Dalal & Triggs have differences of two pixels, where the code has Sobel's; they share a
pixel's vote between bins, and normalise blocks of cells.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.heads import exact


@exact
def hog(images: Tensor, cell: int, bins: int = 9) -> Tensor:
    """Histograms of length 1 of each channel and cell: (B, C, H, W) -> (B, C, bins, H / cell, W / cell).

    The image is mirrored at its borders. A cell that is all of one value has zeros. A factor or a constant on
    a channel changes nothing.

    Raises:
        ValueError: a side that does not divide into cells.
    """
    b, c, h, w = images.shape
    if h % cell or w % cell:
        raise ValueError(f"an image of {h}x{w} does not divide into cells of {cell}")
    x = F.pad(images, (1, 1, 1, 1), mode="reflect").flatten(0, 1)  # (B * C, H + 2, W + 2)
    # By slices and not by a convolution, whose rounding would give flat cells a direction.
    columns, rows = (
        x.narrow(d, 0, n) + 2 * x.narrow(d, 1, n) + x.narrow(d, 2, n) for d, n in ((1, h), (2, w))
    )
    across, down = columns[..., :-2] - columns[..., 2:], rows[:, :-2] - rows[:, 2:]  # (B * C, H, W)
    size, bin_ = torch.hypot(across, down), (torch.atan2(across, down) * (bins / math.pi)).floor() % bins
    # A pass for each bin: adding up by index would give other bits each time on a GPU.
    votes = [F.avg_pool2d(torch.where(bin_ == k, size, 0)[:, None], cell) for k in range(bins)]
    return F.normalize(torch.cat(votes, 1), dim=1).view(b, c, bins, h // cell, w // cell)


def edges(histograms: Tensor, side: int = 16) -> Tensor:
    """A picture of histograms (B, C, K, h, w): (B, 1, h * side, w * side), from 0 to 1.

    Each cell has a stroke for each direction, along the edge and not across it, as bright as the mean of that
    bin over channels. Numbers below 0, which a network may predict, are not drawn.
    """
    weight = histograms.float().mean(1).clamp(0, 1)  # (B, K, h, w)
    angle = (torch.arange(weight.shape[1], device=weight.device) + 0.5) * (math.pi / weight.shape[1])
    place = torch.arange(side, device=weight.device) - (side - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    away = (x * angle.sin()[:, None, None] + y * angle.cos()[:, None, None]).abs()  # (K, side, side)
    strokes = (1.5 - away).clamp(0, 1) * (x.square() + y.square() < (side / 2) ** 2)
    drawn = (weight[..., None, None] * strokes[:, None, None]).amax(1)  # (B, h, w, side, side)
    return drawn.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, None]
