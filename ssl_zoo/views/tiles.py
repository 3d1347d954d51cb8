"""Images cut into tiles, from which a network is to say where each came from.

Edges that go on from one tile to the next, a shade of the whole image, and the colour fringes of a lens would
all give that away: hence gaps between tiles, a random place of each in its cell, and tiles that are
standardised or lose colours (Doersch et al. 2015, section 3.1; Noroozi & Favaro 2016, section 4.2).

Tiles of a batch stand behind each other: the first of all images, then the second, row by row of the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone


def tile_side(
    backbone: ImageBackbone, size: tuple[int, int], grid: int, share: float, side: int | None
) -> int:
    """The side of square tiles in pixels.

    Args:
        backbone: which reads them; a vision transformer's are whole patches.
        size: (height, width) of the images.
        grid: cells along each side.
        share: of the side of a cell, that of a tile where `side` is None.

    Raises:
        ValueError: tiles that do not fit into their cells, or that the backbone cannot read.
    """
    cell, patch = min(size) // grid, getattr(backbone, "patch", None) or 1
    found = max(round(cell * share) // patch, 1) * patch if side is None else side
    if not 1 <= found <= cell:
        raise ValueError(
            f"tiles of {found} pixels do not fit into cells of {cell}, {grid} along {min(size)} pixels: take "
            "smaller tiles, or larger views (view.size), or fewer cells"
        )
    backbone.grid(found, found)
    return found


def cut(x: Tensor, noise: Tensor, grid: int, side: int, play: int | None = None) -> Tensor:
    """A tile of each cell.

    Args:
        x: (B, C, H, W).
        noise: (B, grid * grid, 2) uniform: where each tile lies in its cell, down and across.
        grid: cells along each side. side: of a tile in pixels.
        play: pixels over which a place may vary, around the middle of the cell; None: the whole cell.

    Returns:
        (grid * grid * B, C, side, side).
    """
    starts = []
    for axis, length in enumerate(x.shape[-2:]):
        cell = length // grid
        free = cell - side if play is None else min(play, cell - side)
        number = torch.arange(grid * grid, device=x.device)
        corner = (number // grid if axis == 0 else number % grid) * cell + (cell - side - free) // 2  # (T,)
        # A uniform number just below 1 may round up to the number of places, hence the clamp.
        starts.append(corner + (noise[..., axis] * (free + 1)).long().clamp_max(free))  # (B, T)
    along = torch.arange(side, device=x.device)
    down, across = (start[..., None] + along for start in starts)  # (B, T, side)
    at = (down[..., :, None] * x.shape[-1] + across[..., None, :]).flatten(1)  # (B, T * side * side)
    pixels = x.flatten(2).gather(2, at[:, None].expand(-1, x.shape[1], -1))
    tiles = pixels.unflatten(2, (grid * grid, side, side))  # (B, C, T, side, side)
    return tiles.permute(2, 0, 1, 3, 4).flatten(0, 1)


def standardised(tiles: Tensor) -> Tensor:
    """Each channel of each tile (N, C, h, w) with mean 0.5 and deviation 0.25, cut off at 0 and 1."""
    mean, var = tiles.mean((2, 3), keepdim=True), tiles.var((2, 3), keepdim=True, correction=0)
    return ((tiles - mean) / (var + 1e-5).sqrt()).mul(0.25).add(0.5).clamp(0, 1)


def one_channel(tiles: Tensor, noise: Tensor, share: float) -> Tensor:
    """A share of the tiles (N, C, h, w) with one channel left, and 0.5 in the others (colour dropping).

    noise: (N, 2) uniform: which tiles, and which channel.
    """
    channels = tiles.shape[1]
    kept = torch.arange(channels, device=tiles.device) == (noise[:, 1:] * channels).long()  # (N, C)
    return torch.where((kept | (noise[:, :1] >= share))[..., None, None], tiles, 0.5)


def joined(tiles: Tensor, grid: int) -> Tensor:
    """Tiles (B, grid * grid, C, s, s) as pictures without gaps (B, C, grid * s, grid * s)."""
    b, _, c, s, _ = tiles.shape
    cells = tiles.reshape(b, grid, grid, c, s, s)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(b, c, grid * s, grid * s)
