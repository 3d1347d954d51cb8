"""The views of papers: `View` where all views of an image follow one law, `Views` where they differ.

`size` is a side in pixels, or (height, width); None keeps the image's. `scale` is the least and the most
share of an image's area that a crop covers. `local` is the size of a multi-crop's small views, `local_scale`
their scale, and `count` their number. Values that cannot be raise ValueError, as in `View`.

Papers resize by bicubic interpolation and these by antialiased bilinear. Names that end in `_small`,
`asymmetric` and `vic` are for images of 32 px, where a blur hides what little there is to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssl_zoo.views.view import View, Views

Size = int | Sequence[int]

# Strengths of colour: SimCLR's, half of it, and BYOL's (Grill et al. 2020, arXiv:2006.07733, table 6).
STRONG: dict[str, Any] = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
HALF: dict[str, Any] = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
BYOL: dict[str, Any] = HALF | {"saturation": 0.2}


def simclr(size: Size | None = None, strength: float = 1.0) -> View:
    """SimCLR's view for ImageNet (Chen et al. 2020, arXiv:2002.05709, appendix A)."""
    return View(size, **{name: strength * value for name, value in STRONG.items()})


def simclr_small(size: Size | None = None) -> View:
    """SimCLR's view for CIFAR (appendix B.9): half the colour strength, no blur."""
    return View(size, **HALF, blur=0.0)


def instance(size: Size | None = None) -> View:
    """The view of instance discrimination (Wu et al. 2018, arXiv:1805.01978), as in its code."""
    colour: dict[str, Any] = HALF | {"hue": 0.4}
    return View(size, (0.2, 1.0), **colour, jitter=1.0, blur=0.0)


def twice(view: View) -> Views:
    """Two views of each image that follow one law."""
    return Views(view, view)


def crop(size: Size | None = None, scale: Sequence[float] = (0.3, 1.0)) -> View:
    """Crops alone (I-JEPA, Assran et al. 2023, arXiv:2301.08243, appendix A.1)."""
    return View(size, scale, flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)


def crop_flip(size: Size | None = None, scale: Sequence[float] = (0.2, 1.0)) -> View:
    """Crops and mirroring alone (MAE, arXiv:2111.06377, appendix A.1)."""
    return View(size, scale, jitter=0.0, grayscale=0.0, blur=0.0)


def byol(size: Size | None = None, scale: Sequence[float] = (0.08, 1.0)) -> Views:
    """BYOL's two views for ImageNet (table 6), also those of Barlow Twins, VICReg and MoCo v3.

    The first is always blurred; the second seldom, and sometimes solarized. MoCo v3's ResNets crop from 0.2.
    """
    first, second = View(size, scale, **BYOL, blur=1.0), View(size, scale, **BYOL, blur=0.1, solarize=0.2)
    return Views(first, second)


def asymmetric(size: Size | None = None, scale: Sequence[float] = (0.08, 1.0)) -> Views:
    """BYOL's two views for CIFAR, without a blur (solo-learn's `asymmetric` recipe)."""
    return Views(View(size, scale, **BYOL, blur=0.0), View(size, scale, **BYOL, blur=0.0, solarize=0.2))


def weak(size: Size | None = None, scale: Sequence[float] = (0.2, 1.0)) -> Views:
    """Two views of MoCo v2 (Chen et al. 2020, arXiv:2003.04297); solo-learn crops from 0.08 on CIFAR."""
    view = View(size, scale, **HALF)
    return Views(view, view)


def vic(size: Size | None = None) -> Views:
    """VICReg's two views for CIFAR (solo-learn and eb_jepa): one law, some solarized. On ImageNet: `byol`."""
    view = View(size, (0.2, 1.0), **BYOL, blur=0.0, solarize=0.1)
    return Views(view, view)


def whitening(size: Size | None = None, count: int = 4) -> Views:
    """W-MSE's views for CIFAR (Ermolov et al. 2021, arXiv:2007.06346): `count` of one law, without a blur."""
    return Views(*[View(size, (0.2, 1.0), **HALF, grayscale=0.1, blur=0.0)] * count)


def manifold(size: Size | None = None, count: int = 4) -> Views:
    """MMCR's views for CIFAR (Yerxa et al. 2023, arXiv:2303.03307): `count` of SimCLR's; the paper has 40."""
    return Views(*[simclr_small(size)] * count)


def local_size(size: Sequence[int], patch: int = 1) -> tuple[int, int]:
    """The size of a multi-crop's small views, as 96 of 224 pixels: 3/7 of `size`, (height, width).

    patch: pixels that it is rounded to, of which it is one at least.
    """
    height, width = (max(round(side * 3 / 7 / patch), 1) * patch for side in size)
    return height, width


def dino(
    size: Size,
    local: Size,
    count: int = 8,
    scale: Sequence[float] = (0.4, 1.0),
    local_scale: Sequence[float] = (0.05, 0.4),
) -> Views:
    """DINO's multi-crop (Caron et al. 2021, arXiv:2104.14294): two large views as BYOL's, and small ones.

    224 and 96 pixels for ImageNet. Its ResNets crop from 0.14, and 0.05 to 0.14; without small views
    (count=0) crop from 0.14.
    """
    small = View(local, local_scale, **BYOL, blur=0.5)
    return Views(byol(size, scale), *[small] * count)


def dino_small(size: Size, local: Size, count: int = 4) -> Views:
    """DINO's multi-crop for images of 32 px, and small views of 16: no blur, larger crops. Own choice."""
    return Views(asymmetric(size, (0.3, 1.0)), *[View(local, (0.1, 0.4), **BYOL, blur=0.0)] * count)


def swav(size: Size, local: Size, count: int = 6) -> Views:
    """SwAV's multi-crop (Caron et al. 2020, arXiv:2006.09882): two views and small ones in SimCLR's colours.

    224 and 96 pixels for ImageNet.
    """
    large = View(size, (0.14, 1.0), **STRONG)
    return Views(large, large, *[View(local, (0.05, 0.14), **STRONG)] * count)


def swav_small(size: Size, local: Size, count: int = 4) -> Views:
    """SwAV's multi-crop for images of 32 px, in the colours of `simclr_small`. Own choice."""
    large = View(size, (0.3, 1.0), **HALF, blur=0.0)
    return Views(large, large, *[View(local, (0.1, 0.4), **HALF, blur=0.0)] * count)


def msn(size: Size, local: Size, count: int = 10) -> Views:
    """MSN's crops (Assran et al. 2022, arXiv:2204.07141): two large views and small ones in half of SimCLR's
    colours, the values of its code. 224 and 96 pixels for ImageNet."""
    large = View(size, (0.3, 1.0), **HALF)
    return Views(large, large, *[View(local, (0.05, 0.3), **HALF)] * count)


def lejepa(size: Size, local: Size, count: int = 6) -> Views:
    """LeJEPA's multi-crop (Balestriero & LeCun 2025, arXiv:2511.08544): one law of colour for all views.

    224 and 98 pixels for ImageNet, with patches of 14.
    """
    large = View(size, (0.3, 1.0), **BYOL, solarize=0.2)
    return Views(large, large, *[View(local, (0.05, 0.3), **BYOL, solarize=0.2)] * count)


def lejepa_small(size: Size, local: Size, count: int = 4) -> Views:
    """LeJEPA's multi-crop for images of 32 px: no blur, small views from a tenth. Own choice."""
    large = View(size, (0.3, 1.0), **BYOL, blur=0.0, solarize=0.2)
    return Views(large, large, *[View(local, (0.1, 0.4), **BYOL, blur=0.0, solarize=0.2)] * count)


def emp(
    size: Size | None = None,
    count: int = 20,
    scale: Sequence[float] = (0.25, 0.25),
    blur: float = 0.1,
) -> Views:
    """EMP-SSL's patches for CIFAR (Tong et al. 2023, arXiv:2304.03977): `count` squares of one area.

    Its code enlarges them to the image's size. With a size of half the image's side a CNN reads the same
    pixels and computes a quarter as much.
    """
    colour: dict[str, Any] = HALF | {"hue": 0.2}
    return Views(*[View(size, scale, (1.0, 1.0), **colour, blur=blur, solarize=0.1)] * count)
