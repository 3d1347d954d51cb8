"""A dictionary of patches: how near each place of an image is to each of many words, in a single layer.

Coates, Ng & Lee 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", section 3.2
("triangle" k-means). Each patch p of an image is brought to mean 0 and deviation 1, and whitened,
z = W (p - m). With d_k = || z - c_k || for words c_1 .. c_K, and d the mean of these, its features are

    f_k = max(0, d - d_k)

summed over each of some cells of the image. There is no other layer: textures and colours by place, no parts
of objects. On small images that is a strong start, and its cost is all in the number of words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import Features, ImageBackbone, Layers
from ssl_zoo.backbones._timm import Normalise, Size, side_pair

EPS = 0.0025  # added to the variance of a patch, of pixels / 0.25: the paper's 10, of pixels up to 255
CHUNK = 8  # images whose distances are held at once: as many as stay in a cache


def even(patches: Tensor) -> Tensor:
    """Patches (..., d) of mean 0 and, but for flat ones, deviation 1."""
    centred = patches - patches.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + EPS).rsqrt()


class PatchDictionary(ImageBackbone):
    """Triangle features of patches, summed over cells.

    The words, and what whitens patches, are the objective's to find (`objectives/patch_kmeans.py`); before
    that, words are random and nothing is whitened. Features are one token of count * cells * cells numbers.

    Args:
        count: K, how many words there are.
        patch_size: side of a patch in pixels. stride: pixels from one patch to the next.
        cells: the features of an image are those of cells x cells parts of it, side by side.
        image_size: side in pixels, or (height, width), that images are resized to.
        mean, std: per channel, of images in [0, 1]; None: 0.5 and 0.25.

    Raises:
        ValueError: a number below 1, or images with fewer patches than cells.
    """

    kind = "patches"
    centre: Tensor
    whiten: Tensor

    def __init__(
        self,
        count: int = 400,
        patch_size: int = 6,
        stride: int = 1,
        cells: int = 2,
        image_size: Size = 32,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        if min(count, patch_size, stride, cells) < 1:
            raise ValueError(f"{count=}, {patch_size=}, {stride=}, {cells=}: each is 1 or more")
        size = side_pair(image_size, (32, 32))
        normalise = Normalise(((0.5,) * 3, (0.25,) * 3), 3, mean, std)
        super().__init__(
            {
                "count": count,
                "patch_size": patch_size,
                "stride": stride,
                "cells": cells,
                "image_size": list(size),
                "mean": normalise.values[0],
                "std": normalise.values[1],
            }
        )
        self.side, self.stride, self.cells = patch_size, stride, cells
        self.normalise, self.image_size = normalise, size
        self.dim = count * cells * cells
        self.grid(*size)
        numbers = 3 * patch_size**2
        self.words = nn.Parameter(torch.randn(count, numbers))
        self.register_buffer("centre", torch.zeros(numbers))
        self.register_buffer("whiten", torch.eye(numbers))

    def places(self, height: int, width: int) -> tuple[int, int]:
        """How many rows and columns of patches an image of this size in pixels has.

        Raises:
            ValueError: fewer than cells.
        """
        high, wide = ((side - self.side) // self.stride + 1 for side in (height, width))
        if min(high, wide) < self.cells:
            cells = f"{self.cells}x{self.cells}"
            raise ValueError(
                f"images of {height}x{width} pixels hold {max(high, 0)}x{max(wide, 0)} patches of "
                f"{self.side}: too few for {cells} cells; take larger images or smaller patches"
            )
        return high, wide

    def grid(self, height: int, width: int) -> tuple[int, int]:
        self.places(height, width)
        return 1, 1

    def patches(self, x: Tensor, at: Tensor) -> Tensor:
        """Some patches of images x (B, C, H, W), even, not whitened: at (B, S), numbers of places, row by row
        -> (B, S, C * side * side)."""
        width = x.shape[3]
        wide = self.places(*x.shape[2:])[1]
        first = self.stride * (at // wide * width + at % wide)  # (B, S), the upper left pixel
        steps = torch.arange(self.side, device=x.device)
        inside = (steps[:, None] * width + steps).flatten()
        pixels = (first[..., None] + inside).flatten(1)[:, None].expand(-1, x.shape[1], -1)
        found = x.flatten(2).gather(2, pixels).unflatten(2, (at.shape[1], -1))  # (B, C, S, side * side)
        return even(found.transpose(1, 2).flatten(2))

    def white(self, patches: Tensor) -> Tensor:
        """Even patches (..., d) -> whitened (..., d)."""
        return (patches - self.centre) @ self.whiten

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        if segments is not None:
            raise ValueError("PatchDictionary reads one image a row: segments must be None")
        x = self.normalise(x)
        self.places(*x.shape[2:])
        kernel, shift = self.asked()
        pooled = torch.cat([self.pooled(part, kernel, shift) for part in x.split(CHUNK)])
        tokens = pooled[:, None]
        only = {None: (), "pooled": (pooled,), "tokens": (tokens,)}
        return Features(tokens, pooled, only[layers])

    def asked(self) -> tuple[Tensor, Tensor]:
        """What all patches are multiplied with, words and whitened directions alike: a kernel of mean 0
        (K + d, C, side, side), and what of each product is the centre's (K + d,)."""
        lines = torch.cat([self.words @ self.whiten, self.whiten])  # (K + d, d); whiten is symmetric
        kernel = (lines - lines.mean(1, keepdim=True)).unflatten(1, (-1, self.side, self.side))
        return kernel.contiguous(memory_format=torch.channels_last), lines @ self.centre

    def pooled(self, x: Tensor, kernel: Tensor, shift: Tensor) -> Tensor:
        """Standardised images (B, C, H, W), and what `asked` gives -> features (B, cells * cells * count)."""
        # || z - c ||^2 = z.z - 2 z.c + c.c with z = W (p - mean(p)) / deviation(p) - W m: one convolution
        # gives all products with p.
        x = x.contiguous(memory_format=torch.channels_last)
        found = F.conv2d(x, kernel, stride=self.stride).permute(0, 2, 3, 1)  # (B, rows, columns, K + d)
        scale = self.deviation(x).rsqrt()  # (B, rows, columns, 1)
        near, z = found.split([len(self.words), len(self.whiten)], dim=3)
        length = (z * scale - shift[len(self.words) :]).square().sum(3, keepdim=True)
        constant = self.words.square().sum(1) + 2 * shift[: len(self.words)]
        # In place: K numbers for each place of an image are a lot of memory to go through.
        distance = torch.addcmul(constant, near, scale, value=-2).add_(length).clamp_min_(1e-6).sqrt_()
        nearness = (distance.mean(3, keepdim=True) - distance).relu_()
        high, wide = nearness.shape[1:3]
        cells = F.adaptive_avg_pool2d(nearness.permute(0, 3, 1, 2), self.cells)  # (B, K, cells, cells)
        return cells.permute(0, 2, 3, 1).flatten(1) * (high * wide / self.cells**2)

    def deviation(self, x: Tensor) -> Tensor:
        """The variance of each patch, and EPS: (B, C, H, W) -> (B, rows, columns, 1)."""
        mean, square = (
            F.avg_pool2d(one.mean(1, keepdim=True), self.side, self.stride) for one in (x, x.square())
        )
        return ((square - mean.square()).clamp_min(0) + EPS).permute(0, 2, 3, 1)

    def blocks(self) -> Sequence[nn.Module]:
        return ()
