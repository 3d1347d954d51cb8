"""A CNN that reads some cells of an image and nothing of the others, and a decoder that draws the others.

Convolutions spread what is seen over what is hidden, layer by layer, and batch norms count hidden cells. So
hidden cells are set to 0 before each convolution and pooling, and batch norms are given visible cells alone,
which equals a convolution of sparse points (SparK, Tian et al. 2023, arXiv:2301.03580, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_zoo.norm import BatchNorm2d
from ssl_zoo.tokens import patchify, put, take, unpatchify


class Visible:
    """Cells that are seen: at (B, K) int64, of a grid of rows x columns.

    Maps (B, C, h, w) are of any size whose sides the grid divides."""

    def __init__(self, at: Tensor, grid: tuple[int, int]):
        self.at, self.grid = at, grid
        seen = torch.zeros(len(at), grid[0] * grid[1], device=at.device).scatter(1, at, 1.0)
        self.seen = seen.view(-1, 1, *grid)

    def on(self, x: Tensor) -> Tensor:
        """What is seen of a map: (B, 1, h, w), 1 or 0, of the map's type."""
        return F.interpolate(self.seen, x.shape[2:]).to(x.dtype)

    def fits(self, x: Tensor) -> bool:
        """Whether the grid divides the map; squeezed ones of one cell, for example, are left as they are."""
        return x.dim() == 4 and not (x.shape[2] % self.grid[0] or x.shape[3] % self.grid[1])

    def pack(self, x: Tensor) -> Tensor:
        """The seen parts of a map, one after the other: (B, C, h, w) -> (B * K, C, h / rows, w / columns)."""
        side = x.shape[2] // self.grid[0]
        parts = take(patchify(x, side), self.at).reshape(-1, side, side, x.shape[1])
        return parts.permute(0, 3, 1, 2)

    def unpack(self, parts: Tensor) -> Tensor:
        """The inverse of `pack`, with 0 where nothing is seen: (B, C, h, w)."""
        channels, side = parts.shape[1:3]
        rows = parts.permute(0, 2, 3, 1).reshape(*self.at.shape, -1)
        empty = rows.new_zeros(len(rows), self.grid[0] * self.grid[1], rows.shape[2])
        return unpatchify(put(empty, self.at, rows), side, channels, *(side * one for one in self.grid))


@contextmanager
def sparse(network: nn.Module, visible: Visible) -> Iterator[None]:
    """Inside it, a CNN reads visible cells alone, and its batch norms are over these."""
    packed: set[nn.Module] = set()

    def hide(_module: nn.Module, inputs: Any) -> Any:
        x, *others = inputs
        return (x * visible.on(x), *others) if visible.fits(x) else None

    def pack(module: nn.Module, inputs: Any) -> Any:
        if visible.fits(inputs[0]):
            packed.add(module)
            return (visible.pack(inputs[0]),)
        return None

    def unpack(module: nn.Module, _inputs: Any, out: Tensor) -> Tensor | None:
        if module in packed:
            packed.remove(module)
            return visible.unpack(out)
        return None

    handles = []
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            handles += [module.register_forward_pre_hook(pack), module.register_forward_hook(unpack)]
        elif isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            handles.append(module.register_forward_pre_hook(hide))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class MapDecoder(nn.Module):
    """SparK's light U-Net (section 3.2): from the smallest map on, twice the size and half the width a step.

    Before a map is added it is normalised, what is not seen of it is filled with a learnt vector, and a
    convolution gives it the decoder's width.

    Args:
        dims: channels of the maps, from the smallest on, each twice as large as the one before; None for a
            size of which there is no map. There are as many as steps to the size of the image.
        width: of the decoder at the first map.
        out: channels that are drawn.

    Raises:
        ValueError: a width that cannot be halved so often.
    """

    def __init__(self, dims: Sequence[int | None], width: int, out: int):
        super().__init__()
        if width % 2 ** len(dims):
            raise ValueError(
                f"a decoder of width={width} cannot be halved {len(dims)} times: take a multiple"
            )
        there = [(str(k), dim, width >> k) for k, dim in enumerate(dims) if dim is not None]
        self.norms = nn.ModuleDict({k: BatchNorm2d(dim) for k, dim, _ in there})
        self.blanks = nn.ParameterDict({k: torch.randn(dim) * 0.02 for k, dim, _ in there})
        kernel = lambda k: 1 if k == "0" else 3  # noqa: E731
        self.fits = nn.ModuleDict(
            {k: nn.Conv2d(dim, wide, kernel(k), padding=kernel(k) // 2) for k, dim, wide in there}
        )
        self.steps = nn.ModuleList(_double(width >> k, width >> k + 1) for k in range(len(dims)))
        self.draw = nn.Conv2d(width >> len(dims), out, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, maps: Sequence[Tensor | None], visible: Visible) -> Tensor:
        """Maps (B, dim, h, w), from the smallest on, of which `visible` cells are seen -> (B, out, H, W)."""
        x: Any = 0
        for k, (seen, step) in enumerate(zip(maps, self.steps, strict=True)):
            if seen is not None:
                full = visible.unpack(self.norms[str(k)](visible.pack(seen)))
                blank = self.blanks[str(k)].to(full.dtype)[:, None, None]
                x = x + self.fits[str(k)](full + (1 - visible.on(full)) * blank)
            x = step(x)
        return self.draw(x)


def _double(narrow: int, out: int) -> nn.Sequential:
    """(B, narrow, h, w) -> (B, out, 2 h, 2 w)."""
    conv = lambda to: nn.Conv2d(narrow, to, 3, padding=1, bias=False)  # noqa: E731
    up = nn.ConvTranspose2d(narrow, narrow, 4, stride=2, padding=1)
    return nn.Sequential(up, conv(narrow), BatchNorm2d(narrow), nn.ReLU6(), conv(out), BatchNorm2d(out))
