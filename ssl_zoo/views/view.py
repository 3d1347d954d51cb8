"""Random views of a batch: one, or several.

A `View` draws one row of uniform noise a sample (for the undivided batch: see `noise.rand`)
and turns it into boxes, strengths and choices by the pure functions below. The distributions are
those of torchvision's RandomResizedCrop, RandomHorizontalFlip, ColorJitter, RandomGrayscale,
GaussianBlur and RandomSolarize, with one difference: the order in which brightness, contrast,
saturation and hue change is drawn once a batch, not once a sample. Every sample's order is still
uniform over all orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import final

import torch
from torch import Tensor, nn

from ssl_zoo.noise import rand, rand_shared
from ssl_zoo.views.image import (
    Draw,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    gaussian_blur,
    resized_crop,
    rgb_to_grayscale,
    solarize,
    to_float,
    where,
)

TRIES = 10  # boxes that RandomResizedCrop draws before it falls back on the centre
UNBLURRED = 1e-3  # a sigma in pixels at which a blur changes nothing


def crop_boxes(
    noise: Tensor, height: int, width: int, scale: Sequence[float], ratio: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes with the distribution of torchvision's RandomResizedCrop.get_params.

    Args:
        noise: (B, tries, 4) uniform; the first try that fits the image is taken.
        height, width: of the images.
        scale: (least, most) share of the image's area.
        ratio: (least, most) width / height, log-uniform.

    Returns:
        top, left, height, width: (B,) int64. Where no try fits, the largest box at the centre whose
        ratio is allowed.
    """
    area = height * width * (scale[0] + noise[..., 0] * (scale[1] - scale[0]))  # (B, tries)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + noise[..., 1] * (high - low))
    w, h = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # (B, 1)
    any_fits = fits.gather(1, first).squeeze(1)
    w, h, y, x = (v.gather(1, first).squeeze(1) for v in (w, h, noise[..., 2], noise[..., 3]))
    # A uniform number just below 1 may round up to the number of places, hence the minimum.
    top = torch.minimum((y * (height - h + 1)).floor(), height - h)
    left = torch.minimum((x * (width - w + 1)).floor(), width - w)
    centre = centre_box(height, width, ratio)
    top, left, h, w = (
        torch.where(any_fits, v.long(), fallback)
        for v, fallback in zip((top, left, h, w), centre, strict=True)
    )
    return top, left, h, w


def centre_box(height: int, width: int, ratio: Sequence[float]) -> tuple[int, int, int, int]:
    """The largest box at the centre with an allowed width / height: (top, left, height, width)."""
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def around_one(noise: Tensor, strength: float) -> Tensor:
    """Uniform in [max(0, 1 - strength), 1 + strength]: how ColorJitter draws factors."""
    low = max(0.0, 1 - strength)
    return low + noise * (1 + strength - low)


@final
class View(nn.Module):
    """One random view of each image: crop, flip, colour jitter, grey, blur, solarize, in this order.

    `view(x)` takes images uint8 or float in [0, 1] (B, C, H, W) and gives float32 in [0, 1]
    (B, C, h, w). Every image has its own draw. Runs in float32 under autocast, too, and has no
    gradient. Saturation, hue and grey are skipped for images of one channel.

    Args:
        size: side, or (height, width), of the view in pixels; None keeps the image's.
        scale: (least, most) share of the image's area that a crop covers.
        ratio: (least, most) width / height of a crop.
        flip: probability of mirroring left to right.
        brightness, contrast, saturation: factors are uniform in 1 ± strength, not below 0.
        hue: uniform in ± hue turns of the colour wheel; at most 0.5.
        jitter: probability of these four.
        grayscale: probability of grey.
        blur: probability of a Gaussian blur.
        blur_sigma: (least, most) sigma in pixels.
        blur_kernel: odd width in pixels; None is a tenth of the view's side.
        solarize: probability of inverting the pixels that are at a half or brighter.

    Raises:
        ValueError: a value that cannot be, or colour changes asked of images with 2 or more than 3
            channels.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        jitter: float = 0.8,
        grayscale: float = 0.2,
        blur: float = 0.5,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        blur_kernel: int | None = None,
        solarize: float = 0.0,
    ):
        super().__init__()
        self.size = _pair(size)
        self.scale = _range("scale", scale, most=1.0)
        self.ratio = _range("ratio", ratio)
        self.blur_sigma = _range("blur_sigma", blur_sigma)
        self.flip = _within("flip", flip)
        self.brightness = _within("brightness", brightness, math.inf)
        self.contrast = _within("contrast", contrast, math.inf)
        self.saturation = _within("saturation", saturation, math.inf)
        self.hue = _within("hue", hue, 0.5)
        self.jitter = _within("jitter", jitter)
        self.grayscale = _within("grayscale", grayscale)
        self.blur = _within("blur", blur)
        if blur_kernel is not None and (blur_kernel < 1 or blur_kernel % 2 == 0):
            raise ValueError(f"blur_kernel must be odd and positive, not {blur_kernel}")
        self.blur_kernel = blur_kernel
        self.solarize = _within("solarize", solarize)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        size = self.size or (x.shape[-2], x.shape[-1])
        kernel = (self.blur_kernel or (min(size) // 10) | 1) if self.blur > 0 else 1
        with torch.autocast(x.device.type, enabled=False):
            draw = self._draw(x, kernel)
            if x.device.type == "cpu" and x.shape[1] in (1, 3) and not torch.compiler.is_compiling():
                from ssl_zoo.views.kernels import render  # compiles, or loads what it compiled before

                return render(x, size, draw, kernel)
            return self._compose(to_float(x).float(), size, draw, kernel)

    def _draw(self, x: Tensor, kernel: int) -> Draw:
        """What happens to each image of x (B, C, H, W)."""
        # Every option has its own columns whether used or not, so that one does not move another's noise.
        noise = rand(len(x), 4 * TRIES + 10, device=x.device)
        boxes, flip, jitter, factors, grey, blur, sigma, solar = noise.split(
            [4 * TRIES, 1, 1, 4, 1, 1, 1, 1], dim=1
        )
        box = crop_boxes(boxes.unflatten(1, (TRIES, 4)), x.shape[-2], x.shape[-1], self.scale, self.ratio)
        one, two, three, turn = factors.split(1, dim=1)
        strengths = [
            around_one(one, self.brightness),
            around_one(two, self.contrast),
            around_one(three, self.saturation),
            (2 * turn - 1) * self.hue,
        ]
        neutral = torch.tensor([1.0, 1.0, 1.0, 0.0]).to(x.device, non_blocking=True)
        low, high = self.blur_sigma
        colour = x.shape[1] > 1
        changed = (self.brightness, self.contrast, self.saturation * colour, self.hue * colour)
        order = [i for i in rand_shared(4).argsort().tolist() if self.jitter * changed[i] > 0]
        return Draw(
            box,
            (flip < self.flip).squeeze(1),
            order,
            torch.where(jitter < self.jitter, torch.cat(strengths, 1), neutral),
            (grey < self.grayscale * colour).squeeze(1),
            torch.where((blur < self.blur) & (kernel > 1), low + sigma * (high - low), 0.0).squeeze(1),
            (solar < self.solarize).squeeze(1),
        )

    def _compose(self, x: Tensor, size: tuple[int, int], draw: Draw, kernel: int) -> Tensor:
        """The view of float images in torch's operations, without steps that can be drawn for no image."""
        x = resized_crop(x, *draw.box, size, draw.flip)
        changes = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
        for i in draw.order:
            x = changes[i](x, draw.factors[:, i])
        if self.grayscale > 0 and x.shape[1] > 1:
            x = where(draw.grey, rgb_to_grayscale(x), x)
        if kernel > 1:
            x = gaussian_blur(x, draw.sigma.clamp_min(UNBLURRED), kernel)
        if self.solarize > 0:
            x = where(draw.solar, solarize(x, 0.5), x)
        return x.clamp_(0, 1)  # the matrix products may round to just outside

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={value}" for name, value in vars(self).items() if name[0] != "_" and name != "training"
        )


@final
class Views(nn.Module):
    """Several views of each image, joined by size, so that a backbone runs once for each size.

    `views(x)` takes images (B, C, H, W) as `View` does. Neighbouring views of one size form a group: a tensor
    (V * B, C, h, w) that holds the first view of all images, then the second, and so on. The result is the
    list of groups, so that features of all groups joined in order are those of all views in order. Each view
    draws its own noise in turn: more views at the end change nothing in those before them.

    Args:
        views: the views in order; those of another `Views` take its place.

    Attributes:
        counts: the number of views in each group; multi-crop recipes have (large, small).

    Raises:
        ValueError: no view.
    """

    def __init__(self, *views: View | Views):
        super().__init__()
        each = [one for part in views for one in (part.each if isinstance(part, Views) else [part])]
        if not each:
            raise ValueError("Views needs at least one view")
        self.each = nn.ModuleList(each)
        self.counts = tuple(len(list(same)) for _, same in groupby(each, key=attrgetter("size")))

    def forward(self, x: Tensor) -> list[Tensor]:
        views = iter(self.each)
        return [torch.cat([view(x) for view in islice(views, count)]) for count in self.counts]


def _pair(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"size must be a positive side or (height, width), not {size}")
    return pair


def _range(name: str, values: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    if len(values) != 2 or not 0 < values[0] <= values[1] <= most:
        bound = "" if most == math.inf else f" <= {most:g}"
        raise ValueError(f"{name} must be (least, most) with 0 < least <= most{bound}, not {tuple(values)}")
    return float(values[0]), float(values[1])


def _within(name: str, value: float, most: float = 1.0) -> float:
    if not 0 <= value <= most:
        bound = "at least 0" if most == math.inf else f"between 0 and {most:g}"
        raise ValueError(f"{name} must be {bound}, not {value}")
    return float(value)


def groups(views: View | Views) -> tuple[int, ...]:
    """How many views there are of each size; a `View` alone is one."""
    return views.counts if isinstance(views, Views) else (1,)
