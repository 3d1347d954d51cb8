"""The map that a stage of a CNN reads: its size, squares of its cells, and a change of it for one pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone


@contextmanager
def changing(backbone: ImageBackbone, stage: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside it, a stage (from 1) reads change(z) in place of the map z, both (B, C, h, w)."""

    def hook(_stage: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return change(inputs[0]), *inputs[1:]

    handle = backbone.blocks()[stage - 1].register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def map_before(backbone: ImageBackbone, stage: int) -> tuple[int, int, int]:
    """Channels, rows and columns of the map that a stage (from 1) reads, of an image of the backbone's size.

    Raises:
        ValueError: there is no such stage, or it reads no map (B, C, h, w).
    """
    trial = copy.deepcopy(backbone).eval()
    found: list[torch.Size] = []
    blocks = trial.blocks()
    if 1 <= stage <= len(blocks):
        blocks[stage - 1].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].shape))
        mean = trial.normalise.mean
        trial(mean.new_zeros(1, len(mean), *trial.image_size))
    if not found or len(found[0]) != 4 or getattr(backbone, "nhwc", False):
        raise ValueError(
            f"stage={stage} of {len(blocks)}: there is no such stage, or it reads no map (channels, rows, "
            "columns); take a ResNet, or another CNN of such stages"
        )
    return found[0][1], found[0][2], found[0][3]


def squares(image: Sequence[int], cells: Sequence[int], last: Sequence[int], side: int) -> tuple[int, int]:
    """Rows and columns of the squares of side x side cells that a map of rows x columns cells divides into.

    Args:
        image: (height, width) in pixels. cells: (rows, columns) of the map. last: those of the last map.

    Raises:
        ValueError: squares or cells are not whole, or cells of the last map are not squares of pixels.
    """
    pairs = zip((*cells, *image, *image), (side, side, *cells, *last), strict=True)
    if side < 1 or any(a % b for a, b in pairs) or image[0] * last[1] != image[1] * last[0]:
        raise ValueError(
            f"images of {tuple(image)} have {tuple(cells)} cells in a map and {tuple(last)} in the last one: "
            f"these, and squares of side={side} cells of the map, have to divide the image; try side=1"
        )
    return cells[0] // side, cells[1] // side
