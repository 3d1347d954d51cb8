"""Image operations on whole batches, each sample with its own parameters.

Images are float (B, C, H, W) in [0, 1], on any device. Every operation gives what the function of
the same name in `torchvision.transforms.v2.functional` gives image by image (tests/views/test_views.py
holds each to it), with no loop over samples, no wait for the device and shapes that do not depend
on the parameters. Random choices are made in `view.py`.

Cropping, resizing, flipping and blurring are linear and separable: out = rows @ image @ cols^T,
with one pair of small matrices a sample. That is exact, and two batched matrix products do it all.
On a GPU that allows TF32 products, they are good to about 1e-3 (a quarter of a grey level).

`Draw` says what happens to each image of a batch; the operations here and the loops of `kernels` read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Rec. 601 luma, with the digits that torchvision uses.
LUMA = (0.2989, 0.587, 0.114)


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


def to_float(x: Tensor) -> Tensor:
    """uint8 in 0..255 becomes float32 in [0, 1]; float stays as it is.

    Raises:
        ValueError: any other type.
    """
    if x.is_floating_point():
        return x
    if x.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 or float, not {x.dtype}")
    return x.to(torch.float32).mul_(1 / 255)


def where(chosen: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """y for the samples that are chosen, x for the others. chosen (B,) bool."""
    return torch.where(_column(chosen), y, x)


def _column(parameter: Tensor) -> Tensor:
    return parameter.reshape(-1, 1, 1, 1)  # (B,) -> (B, 1, 1, 1)


def separable(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """rows @ image @ cols^T. x (B, C, H, W), rows (B, h, H), cols (B, w, W) -> (B, C, h, w)."""
    b, c, height, width = x.shape
    # Folding channels and rows into one product: (B, C * H, W) @ (B, W, w) -> (B, C, H, w).
    wide = (x.reshape(b, c * height, width) @ cols.transpose(1, 2)).reshape(b, c, height, -1)
    return rows[:, None] @ wide


def resize_weights(start: Tensor, length: Tensor, size: int, out: int, flip: Tensor | None = None) -> Tensor:
    """One axis of a crop, resize and flip: (B, out, size) weights whose rows sum to 1.

    The triangle filter of torch's antialiased bilinear `interpolate`: as wide as an output pixel
    when shrinking, one input pixel when enlarging, and blind to what lies outside of the crop.

    Args:
        start, length: (B,) int64, of the crop in pixels.
        size, out: pixels of the image and of the result.
        flip: (B,) bool, which results to mirror.
    """
    device = start.device
    scale = (length.float() / out)[:, None, None]  # (B, 1, 1) input pixels per output pixel
    order = torch.arange(out, device=device)[:, None]  # (out, 1)
    if flip is not None:
        order = torch.where(flip[:, None, None], out - 1 - order, order)  # (B, out, 1)
    centre = (order + 0.5) * scale  # (B, out, 1), in pixels from the crop's edge
    pixel = (torch.arange(size, device=device) - start[:, None]) + 0.5  # (B, size)
    inside = (pixel > 0) & (pixel < length[:, None])
    weights = centre - pixel[:, None]  # (B, out, size)
    weights = weights.abs_().mul_(-1 / scale.clamp_min(1)).add_(1).clamp_min_(0).mul_(inside[:, None])
    return weights.div_(weights.sum(-1, keepdim=True))


def resized_crop(
    x: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    size: tuple[int, int],
    flip: Tensor | None = None,
) -> Tensor:
    """Crop each image to its own box and resize it (bilinear, antialiased), then mirror some.

    Args:
        x: (B, C, H, W).
        top, left, height, width: (B,) int64 boxes in pixels, inside the image.
        size: (height, width) of the result.
        flip: (B,) bool, which results to mirror left to right.
    """
    rows = resize_weights(top, height, x.shape[-2], size[0])
    cols = resize_weights(left, width, x.shape[-1], size[1], flip)
    return separable(x, rows, cols)


def blur_weights(sigma: Tensor, kernel_size: int, length: int) -> Tensor:
    """One axis of a Gaussian blur with reflected borders: (B, length, length), rows sum to 1.

    sigma: (B,) in pixels, above 0. kernel_size: odd, in pixels. length: pixels of the image.
    """
    device = sigma.device
    radius = kernel_size // 2
    tap = torch.arange(radius + 1, device=device)
    kernel = torch.exp(-0.5 * (tap / sigma[:, None]).square())  # (B, radius + 1) from the centre out
    kernel = kernel / (2 * kernel.sum(1, keepdim=True) - kernel[:, :1])
    at = torch.arange(length, device=device)
    # How often pixel j is read from pixel i at distance `tap`: directly, and mirrored at either end.
    away = (at[:, None] - at).abs()
    before = torch.where(at > 0, at[:, None] + at, -1)
    after = torch.where(at < length - 1, 2 * (length - 1) - at[:, None] - at, -1)
    reads = torch.stack([away, before, after])[:, None] == tap[:, None, None]  # (3, taps, n, n)
    return (kernel @ reads.sum(0).to(kernel.dtype).flatten(1)).reshape(-1, length, length)


def refuse_kernel(kernel_size: int, size: Sequence[int]) -> None:
    """Raise ValueError if a blur kernel is even, or reaches past the reflected border of images (h, w)."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"the blur kernel must be odd and positive, not {kernel_size}")
    if kernel_size // 2 >= min(size):
        raise ValueError(f"a blur kernel of {kernel_size} is too wide for {size[0]}x{size[1]} images")


def gaussian_blur(x: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur each image with its own sigma (B,) in pixels; a tiny sigma leaves it as it is.

    Raises:
        ValueError: a kernel that is even, or that reaches past the reflected border.
    """
    refuse_kernel(kernel_size, x.shape[-2:])
    rows = blur_weights(sigma, kernel_size, x.shape[-2])
    cols = rows if x.shape[-1] == x.shape[-2] else blur_weights(sigma, kernel_size, x.shape[-1])
    return separable(x, rows, cols)


def _luma(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    if x.shape[1] != 3:
        raise ValueError(f"this operation needs RGB images, and these have {x.shape[1]} channels")
    red, green, blue = x.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def rgb_to_grayscale(x: Tensor) -> Tensor:
    """Luma in all three channels: (B, 3, H, W) -> (B, 3, H, W)."""
    return _luma(x).expand_as(x)


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """factor (B,) >= 0: 0 is black, 1 the image itself."""
    return (x * _column(factor)).clamp_(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """factor (B,) >= 0: 0 is the image's mean grey, 1 the image itself."""
    mean = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
    grey = mean if x.shape[1] == 1 else _luma(mean)
    return torch.addcmul(grey * _column(1 - factor), x, _column(factor)).clamp_(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """factor (B,) >= 0: 0 is grey, 1 the image itself. RGB."""
    return torch.addcmul(_luma(x).mul_(_column(1 - factor)), x, _column(factor)).clamp_(0, 1)


def adjust_hue(x: Tensor, factor: Tensor) -> Tensor:
    """Turn the colour wheel by factor (B,) in [-0.5, 0.5] turns. RGB.

    The same as through HSV, of which only the hue h is computed: on a wheel of circumference 6, a
    channel at c has its maximum within 1 of c, its minimum beyond 2, and is linear in between.
    """
    if x.shape[1] != 3:
        raise ValueError(f"hue needs RGB images, and these have {x.shape[1]} channels")
    red, green, blue = x.unbind(1)  # (B, H, W)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    spread = high - low
    hue = torch.where(high == green, (blue - red).add_(spread, alpha=2), (red - green).add_(spread, alpha=4))
    hue = torch.where(high == red, green - blue, hue).div_(spread.clamp_min(1e-12))
    hue.add_(6 * factor[:, None, None])
    hue.sub_((hue / 6).round_(), alpha=6)  # in [-3, 3]
    # In place from here on: on a CPU, fresh memory costs more than arithmetic.
    out = torch.empty_like(x)
    for channel, centre in enumerate((0, 2, -2)):
        out[:, channel] = hue - centre
    out.abs_().sub_(3).abs_().sub_(2).clamp_(-1, 0)  # 1 - the distance to c
    return out.mul_(spread.unsqueeze(1)).add_(high.unsqueeze(1))


def solarize(x: Tensor, threshold: float) -> Tensor:
    """Invert the pixels that are at or above the threshold (in [0, 1])."""
    return torch.where(x >= threshold, 1 - x, x)


def hflip(x: Tensor) -> Tensor:
    """Mirror left to right."""
    return x.flip(-1)


def rot90(x: Tensor, k: Tensor) -> Tensor:
    """Turn each square image by k (B,) int64 quarter turns, counter-clockwise: `rotate` by 90 * k degrees.

    Raises:
        ValueError: images that are not square.
    """
    if x.shape[-1] != x.shape[-2]:
        raise ValueError(f"quarter turns need square images, and these are {x.shape[-2]}x{x.shape[-1]}")
    k = k % 4
    x = where(k % 2 == 1, x.transpose(-2, -1), x)
    x = where((k == 1) | (k == 2), x.flip(-2), x)
    return where(k >= 2, x.flip(-1), x)
