"""What was drawn for a batch of views: read by the operations of `image` and by the loops of `kernels`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Draw(NamedTuple):
    """What happens to each image of a batch.

    box: top, left, height and width of the crop, each (B,) int64, inside the image.
    flip: (B,) bool, which to mirror left to right.
    order: which of 0 brightness, 1 contrast, 2 saturation and 3 hue change, first to last.
    factors: (B, 4) float32, in the order of these numbers; 1, 1, 1 and 0 change nothing.
    grey: (B,) bool, which lose their colour.
    sigma: (B,) float32, of the blur in pixels; 0 where there is none.
    solar: (B,) bool, which to solarize at a half.
    """

    box: tuple[Tensor, Tensor, Tensor, Tensor]
    flip: Tensor
    order: list[int]
    factors: Tensor
    grey: Tensor
    sigma: Tensor
    solar: Tensor
