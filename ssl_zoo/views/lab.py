"""The colour space CIE L*a*b* (1976, white D65), in which distances are about those that people see.

L runs from 0, black, to 100, white; a from green to red, b from blue to yellow, 0 where there is no colour.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# sRGB (IEC 61966-2-1) without its curve to XYZ, as shares of the white point.
XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
CUT = 6 / 29  # below its cube, the cube root is a line


def rgb_to_lab(x: Tensor) -> Tensor:
    """Images in [0, 1], (..., 3, H, W) -> L, a and b of the same shape.

    Raises:
        ValueError: images of other than 3 channels.
    """
    if x.shape[-3] != 3:
        raise ValueError(f"colours are of images of 3 channels, and these have {x.shape[-3]}")
    linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    xyz = torch.einsum("ij,...jhw->...ihw", x.new_tensor(XYZ), linear)
    root = torch.where(xyz > CUT**3, xyz.clamp_min(CUT**3) ** (1 / 3), xyz / (3 * CUT**2) + 4 / 29)
    fx, fy, fz = root.unbind(-3)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], -3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The inverse of `rgb_to_lab`; colours that a screen cannot show are cut off at 0 and 1."""
    light, a, b = lab.unbind(-3)
    fy = (light + 16) / 116
    root = torch.stack([fy + a / 500, fy, fy - b / 200], -3)
    xyz = torch.where(root > CUT, root**3, 3 * CUT**2 * (root - 4 / 29))
    linear = torch.einsum("ij,...jhw->...ihw", torch.linalg.inv(lab.new_tensor(XYZ)), xyz).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


@functools.cache
def colour_bins(step: float) -> Tensor:
    """Pairs of a and b on a grid of this step that some colour of a screen is nearest to: (Q, 2), sorted."""
    levels = torch.linspace(0, 1, 64, dtype=torch.float64)
    colours = torch.cartesian_prod(levels, levels, levels).T[..., None]  # (3, 64^3, 1)
    ab = rgb_to_lab(colours)[1:, :, 0].T  # (64^3, 2)
    return ((ab / step).round().unique(dim=0) * step).float()


def nearest_bins(ab: Tensor, bins: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The five bins (or all, of fewer) nearest to each colour, nearest first, and the share of each.

    Shares fall with the distance as a Gaussian of deviation sigma does, and sum to 1 (Zhang et al. 2016,
    section 2.1). ab (N, 2), bins (Q, 2) -> (N, 5) int64 and (N, 5).
    """
    distance, at = torch.cdist(ab, bins).topk(min(5, len(bins)), largest=False)
    return at, (distance.square() / (-2 * sigma**2)).softmax(1)
