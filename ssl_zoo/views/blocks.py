"""Blocks of an image's cells that are hidden, or predicted, as pure functions of uniform noise.

A grid is (rows, columns) of cells, which are numbered row by row. Counts are fixed by the shape, as in
`views.masks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_zoo.views.masks import random_split

BEIT = (0.3, 1 / 0.3)  # least and most height / width of BEiT's rectangles


def blocks(
    noise: Tensor, grid: tuple[int, int], count: int, area: Sequence[float | Tensor], aspect: Sequence[float]
) -> Tensor:
    """Cells that lie in random rectangles, `count` of each image (BEiT, Bao et al. 2022, arXiv:2106.08254).

    Rectangles are laid down in turn, and may overlap, until `count` cells are covered. The last one is cut
    after as many of its cells as were missing, row by row from above or, in half of the images, from below.

    Args:
        noise: (B, R, 4) uniform: area, aspect, row and column of R rectangles. Where all R cover fewer cells,
            the image's upper or lower ones are taken besides, so R should be large: 16 for BEiT's numbers.
        grid: (rows, columns) of cells.
        count: cells to take; BEiT has 75 of 14 x 14.
        area: (least, most) cells of a rectangle, as numbers or (B, 1) for each image; BEiT has 16 and 75.
        aspect: (least, most) height / width, log-uniform; BEiT has 0.3 and 1 / 0.3.

    Returns:
        (B, count) int64, all different within an image, rectangle by rectangle: the first cells of a row are
        a choice of fewer.

    Raises:
        ValueError: more cells than there are, or none.
    """
    if not 0 < count <= grid[0] * grid[1]:
        raise ValueError(f"of {grid[0]}x{grid[1]} cells, {count} cannot be taken")
    size, shape, *place = noise.unbind(-1)  # (B, R) each
    cells = area[0] + size * (area[1] - area[0])
    low, high = math.log(aspect[0]), math.log(aspect[1])
    shape = torch.exp(low + shape * (high - low))
    tall = (cells * shape).sqrt().round().clamp(1, grid[0])
    wide = (cells / shape).sqrt().round().clamp(1, grid[1])
    inside = _covered(torch.stack(place, -1), tall, wide, grid)  # (B, R, N)
    # The area of the last rectangle, which is hardly ever needed, also decides which way cells are counted.
    return _in_turn(inside, noise[:, -1:, 0], count)


def hidden_blocks(noise: Tensor, grid: tuple[int, int], count: int, least: int) -> Tensor:
    """`blocks` as BEiT hides them, of `least` cells or more, or of all that are hidden where these are fewer.

    noise: (B, R, 4) -> (B, count)."""
    return blocks(noise, grid, count, (min(least, count), count), BEIT)


def squares(noise: Tensor, grid: tuple[int, int], side: int, count: int) -> Tensor:
    """Cells that lie in random squares, `count` of each image, which data2vec 2.0 leaves to be seen ("inverse
    block masking", Baevski et al. 2023, arXiv:2212.07525, section 3.2).

    As in `blocks`, but squares may reach over the edge, so that cells are about equally likely. The paper's
    code draws onto the edge what would lie beyond it, and cuts or fills up at random to the right number.

    Args:
        noise: (B, R, 2) uniform: row and column of R squares, as in `blocks`.
        grid: (rows, columns) of cells.
        side: of a square, in cells; the paper has 3 of 14.
        count: cells to take; the paper has 39 of 14 x 14.

    Returns:
        (B, count) int64, all different within an image.

    Raises:
        ValueError: more cells than there are, or none; a side below 1.
    """
    if not 0 < count <= grid[0] * grid[1] or side < 1:
        raise ValueError(f"of {grid[0]}x{grid[1]} cells, {count} cannot be taken in squares of {side}x{side}")
    over = side - 1
    wider = (grid[0] + 2 * over, grid[1] + 2 * over)
    sides = torch.full(noise.shape[:2], side, dtype=noise.dtype, device=noise.device)
    inside = _covered(noise, sides, sides, wider).unflatten(-1, wider)
    inside = inside[..., over : over + grid[0], over : over + grid[1]].flatten(-2)  # (B, R, N)
    return _in_turn(inside, noise[:, -1:, 0], count)


def some_blocks(
    noise: Tensor, grid: tuple[int, int], masked: Sequence[float], share: float, least: int
) -> tuple[Tensor, Tensor]:
    """Cells in random rectangles, of each image another number and of some none (iBOT, Zhou et al. 2021).

    Args:
        noise: (B, 2 + 4 R) uniform: whether any cells are chosen, how many, and R rectangles as in `blocks`.
        grid: (rows, columns) of cells.
        masked: (least, most) share of an image's cells.
        share: share of the images of which any cells are chosen.
        least: cells of a rectangle at least; all that an image has to take, where those are fewer.

    Returns:
        at: (B, M) int64 cells, all different within an image, M the most that an image can have.
        valid: (B, M) bool, which of them are chosen: the first ones of a row.
    """
    cells = grid[0] * grid[1]
    most = max(round(masked[1] * cells), 1)
    chosen, amount = noise[:, :1], noise[:, 1:2]
    count = ((masked[0] + amount * (masked[1] - masked[0])) * cells).round().clamp(1, most)  # (B, 1)
    rectangles = noise[:, 2:].unflatten(1, (-1, 4))
    at = blocks(rectangles, grid, most, (count.clamp_max(least), count), BEIT)
    return at, (torch.arange(most, device=noise.device) < count) & (chosen < share)


def rolled_block(
    noise: Tensor, grid: tuple[int, int], count: int, aspect: Sequence[float] = (0.5, 2.0)
) -> Tensor:
    """The first `count` cells of a rectangle that may leave the grid at one edge and come back at the other
    (CAPI, Darcet et al. 2025, arXiv:2502.08769), so that all cells are equally likely.

    Args:
        noise: (B, 3) uniform: height / width, log-uniform as far as the grid allows, and row and column.
        grid: (rows, columns) of cells.
        count: cells to take.
        aspect: (least, most) height / width.

    Returns:
        (B, count) int64, all different within an image.

    Raises:
        ValueError: more cells than there are, or none.
    """
    rows, columns = grid
    if not 0 < count <= rows * columns:
        raise ValueError(f"of {rows}x{columns} cells, {count} cannot be taken")
    flat, tall = count / columns**2, rows**2 / count  # the least and most that the grid has room for
    low, high = (math.log(min(max(ratio, flat), tall)) for ratio in aspect)
    shape = torch.exp(low + noise[:, :1] * (high - low))
    wide = (count / shape).sqrt().ceil().clamp(1, columns).long()  # (B, 1)
    index = torch.arange(count, device=noise.device)
    y, x = index // wide + (noise[:, 1:2] * rows).long(), index % wide + (noise[:, 2:] * columns).long()
    return y % rows * columns + x % columns


def hidden_count(masked: float, squares: int) -> int:
    """How many of so many squares of an image are a share `masked`, rounded up.

    Raises:
        ValueError: none or all of them.
    """
    count = math.ceil(masked * squares - 1e-6)  # 75 / 196 of 196 are 75, however that is rounded
    if not 0 < count < squares:
        raise ValueError(
            f"masked={masked} of {squares} squares are {count}: at least one is hidden, and not all; change "
            "`masked`, or take smaller squares or larger images"
        )
    return count


def units(noise: Tensor, grid: tuple[int, int], unit: int, count: int) -> Tensor:
    """Cells of whole units, squares of unit x unit cells (SimMIM, Xie et al. 2022, arXiv:2111.09886).

    noise (B, U), one number for each unit -> (B, count * unit * unit) int64: the cells of `count` units.

    Raises:
        ValueError: a grid that does not divide into such units, or noise for another number of them.
    """
    rows, columns = (side // unit for side in grid)
    if grid != (rows * unit, columns * unit) or noise.shape[1] != rows * columns:
        raise ValueError(
            f"{grid[0]}x{grid[1]} cells and {noise.shape[1]} numbers do not make units of {unit}x{unit} cells"
        )
    chosen, _ = random_split(noise, count)
    side = torch.arange(unit, device=noise.device)
    corner = chosen // columns * unit * grid[1] + chosen % columns * unit  # (B, count)
    return (corner[:, :, None, None] + side[:, None] * grid[1] + side).flatten(1)


def multiblock(
    shared: Tensor,
    places: Tensor,
    order: Tensor,
    grid: tuple[int, int],
    keep: int,
    scale: Sequence[float] = (0.15, 0.2),
    aspect: Sequence[float] = (0.75, 1.5),
    context: Sequence[float] = (0.85, 1.0),
) -> tuple[Tensor, Tensor]:
    """The cells that I-JEPA predicts, and those it predicts them from (Assran et al. 2023, arXiv:2301.08243).

    Targets are blocks of one size. The context is a square block without the cells of any target, of which
    `keep` are taken at random; an image with fewer repeats some, and one with none takes any cell. Sizes are
    drawn once a batch, places for each image, up to the last row and column. The paper's code shortens all
    contexts of a batch to the shortest by cutting their last rows, so that it hardly ever sees an image's
    lower part; hence the fixed number here.

    Args:
        shared: (3,) uniform, on the CPU: the targets' area and aspect, and the context's area.
        places: (B, 1 + T, 2) uniform: row and column of the context, and of T targets.
        order: (B, N) uniform, one number for each cell.
        grid: (rows, columns) of cells.
        keep: cells of a context.
        scale, aspect: (least, most) share of the grid that a target covers, and its height / width.
        context: (least, most) share of the grid that a context covers.

    Returns:
        Context (B, keep) and targets (B, T, K), int64, the latter row by row.
    """
    cells = grid[0] * grid[1]
    least = torch.tensor([scale[0], aspect[0], context[0]])
    most = torch.tensor([scale[1], aspect[1], context[1]])
    area, shape, around = (least + shared * (most - least)).tolist()
    tall, wide = (
        min(max(round(math.sqrt(cells * area * ratio)), 1), side)
        for ratio, side in zip((shape, 1 / shape), grid, strict=True)
    )
    square = [min(round(math.sqrt(cells * around)), side) for side in grid]
    sizes = places.new_tensor([square, *[[tall, wide]] * (places.shape[1] - 1)])  # (1 + T, 2)
    inside = _covered(places, sizes[:, 0], sizes[:, 1], grid)  # (B, 1 + T, N)
    allowed = inside[:, 0] & ~inside[:, 1:].any(1)
    first = (order + ~allowed).argsort(1)  # allowed cells in random order, then all others
    turn = torch.arange(keep, device=order.device) % allowed.sum(1, keepdim=True).clamp_min(1)  # (B, keep)
    targets = inside[:, 1:].to(torch.uint8).argsort(dim=2, descending=True, stable=True)
    return first.gather(1, turn), targets[..., : tall * wide]


def _in_turn(inside: Tensor, way: Tensor, count: int) -> Tensor:
    """The first `count` cells that shapes cover which are laid down in turn: inside (B, R, N) bool.

    Of the shape that is cut, and of what none covers, rows are taken from above, or from below where the
    uniform number `way` (B, 1) is large.
    """
    turn = torch.where(inside.any(1), inside.to(torch.uint8).argmax(1), inside.shape[1])  # (B, N)
    along = torch.arange(turn.shape[1], device=inside.device) / turn.shape[1]
    return (turn + torch.where(way < 0.5, along, 1 - along)).argsort(1)[:, :count]


def _covered(place: Tensor, tall: Tensor, wide: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which cells lie in rectangles at random places inside the grid.

    place (..., 2) uniform; tall and wide, of the leading shape, whole numbers in floating point -> (..., N).
    """
    spans = []
    for noise, length, side in zip(place.unbind(-1), (tall, wide), grid, strict=True):
        # A uniform number just below 1 may round up to the number of places, hence the minimum.
        start = torch.minimum((noise * (side - length + 1)).floor(), side - length)[..., None]
        at = torch.arange(side, device=place.device)
        spans.append((at >= start) & (at < start + length[..., None]))  # (..., side)
    return (spans[0][..., :, None] & spans[1][..., None, :]).flatten(-2)
