"""Parts of texts, as pure functions of uniform noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_zoo.backbones._base import segment_positions


def spans(noise: Tensor, lengths: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """A random stretch of each text (Contriever's independent crops: Izacard et al. 2022, section 3.1).

    Its length is drawn evenly from low..high tokens, but is half of the text at most: two stretches of even a
    short text are then the same only by chance.

    Args:
        noise: (..., 2) uniform in [0, 1): of the length, and of the place.
        lengths: int64 tokens of the texts, of the shape (...) or one that broadcasts to it.
        low, high: tokens of a stretch, 1 <= low <= high.

    Returns:
        start and length, (...) int64; a text of one token is its own stretch, one of none has an empty one.
    """
    length = low + (noise[..., 0] * (high - low + 1)).long()
    length = torch.minimum(length, (lengths // 2).clamp_min(1)).clamp_max(lengths)
    start = (noise[..., 1] * (lengths - length + 1)).long()
    return start, length


def longest(segments: Tensor) -> tuple[Tensor, Tensor]:
    """The longest document of each packed row, the first of equals: (B, T) -> start and length, (B,) int64.

    A row of padding alone has a length of 0.
    """
    place = segment_positions(segments).where(segments >= 0, -1)
    last, end = place.amax(1), place.argmax(1)
    return end - last.clamp_min(0), last + 1
