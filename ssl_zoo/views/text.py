"""Parts of texts, as pure functions of uniform noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def crops(ids: Tensor, segments: Tensor | None, noise: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Two crops of the longest document of each packed row, drawn independently (see `spans`).

    Args:
        ids, segments: (B, T). Without segments a row is one document.
        noise: (2, B, 2) uniform in [0, 1).
        low, high: tokens of a crop.

    Returns:
        ids and segments (2 B, W) of the crops, where W is `high`, or half of T; rows i and B + i are of one
        document.
    """
    rows, width = ids.shape
    if segments is None:
        start, length = ids.new_zeros(rows), ids.new_full((rows,), width)
    else:
        start, length = longest(segments)  # (B,)
    first, size = spans(noise, length, low, high)  # (2, B)
    column = torch.arange(min(high, (width + 1) // 2), device=ids.device)
    at = ((start + first)[..., None] + column).clamp_max(width - 1)  # (2, B, W)
    inside = torch.where(column < size[..., None], 0, -1)
    return ids.repeat(2, 1).gather(1, at.flatten(0, 1)), inside.flatten(0, 1)


def stretches(x: Tensor, size: int, beside: int, fill: float = 0) -> tuple[Tensor, Tensor]:
    """Rows cut into stretches, which then see `beside` tokens beyond either end.

    Args:
        x: (B, T). size: tokens of a stretch; a row ends in `fill` up to the next multiple of it.
        fill: what stands beyond the ends of a row.

    Returns:
        (N, size + 2 * beside) with what lies beside, and (N, size) without, N = B * ceil(T / size).
    """
    padded = F.pad(x, (beside, -x.shape[1] % size + beside), value=fill)
    around = padded.unfold(1, size + 2 * beside, size).flatten(0, 1)
    return around, around[:, beside : beside + size]


def neighbours(segments: Tensor, reach: Tensor, size: int, most: int) -> Tensor:
    """Which tokens stand within reach of which, in one document and not at the same place.

    Args:
        segments: (B, T) document of each token; -1: it is nobody's neighbour.
        reach: (B, T) int64, how far each token looks to either side, at most `most`.
        size: tokens of a stretch (see `stretches`).

    Returns:
        (N, size, size + 2 * most) bool: row = who looks, column = who is seen.
    """
    around, own = stretches(segments, size, most, -1)
    place = torch.arange(size + 2 * most, device=segments.device)
    far = (place[:size, None] + most - place).abs()
    near = (far > 0) & (far <= stretches(reach, size, most)[1][..., None])
    return near & (own[:, :, None] == around[:, None]) & (own >= 0)[:, :, None]


def without(noise: Tensor, ids: Tensor, segments: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Documents from which tokens are deleted, each with probability `rate`; what stays moves up.

    Args:
        noise: (B, T) uniform in [0, 1). ids: (B, T). segments: (B, T), one document a row, -1 = padding.

    Returns:
        ids and segments (B, T): of each document at least one token, then padding.
    """
    real = segments >= 0
    noise = noise.masked_fill(~real, -1.0)
    return moved_up(real & ((noise >= rate) | (noise == noise.amax(1, keepdim=True))), ids, segments)


def moved_up(kept: Tensor, ids: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Rows without some of their tokens: those that are kept move up, and padding follows.

    kept, ids, segments: (B, T) -> ids and segments (B, T).
    """
    back = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    return ids.gather(1, back), torch.where(kept.gather(1, back), segments.gather(1, back), -1)


def joined(
    ids: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], between: int
) -> tuple[Tensor, Tensor]:
    """Two stretches of texts, one behind the other, and an id between them.

    Args:
        ids: (B, 2, T): the texts of the first stretches, and those of the second.
        first, second: start and length of each stretch, (B,) int64 each.
        between: the id that stands between them.

    Returns:
        ids and segments (B, T + 1): one document, then padding; what has no room is cut off.
    """
    (start, length), (start_2, length_2) = first, second
    place = torch.arange(ids.shape[2] + 1, device=ids.device)
    inside = place < length[:, None]
    behind = place - length[:, None] - 1  # place within the second
    at = torch.where(inside, start[:, None] + place, start_2[:, None] + behind)
    at = at.clamp(0, ids.shape[2] - 1)
    text = torch.where(inside, ids[:, 0].gather(1, at), ids[:, 1].gather(1, at))
    text = text.masked_fill(behind == -1, between)
    return text, torch.where(behind < length_2[:, None], 0, -1)


def middles_last(
    noise: Tensor, ids: Tensor, segments: Tensor, marks: tuple[int, int, int], rate: float, swapped: float
) -> tuple[Tensor, Tensor]:
    """Of each row the longest document, cut in three and told in another order, with a mark before each part:

        first  PRE prefix SUF suffix MID middle, or PRE SUF suffix MID prefix middle

    Its first token, which opens it, stays where it is.

    Args:
        noise: (B, 4) uniform in [0, 1): of two cuts, of whether a row changes, of the order of its parts.
        ids, segments: (B, T) int64. marks: ids of PRE, SUF and MID.
        rate: share of the rows that change. swapped: share of these that are told in the second order.

    Returns:
        ids and segments (B, T + 3). Rows that do not change end in three tokens of padding.
    """
    b, t = ids.shape
    start, length = longest(segments)
    low, high = (1 + (noise[:, :2] * length[:, None]).long()).clamp_max(length[:, None]).sort(1).values.T
    changes = (noise[:, 2] < rate) & (length > 2)
    other = noise[:, 3] < swapped
    place = torch.arange(t, device=ids.device) - start[:, None]  # within the document
    prefix, middle = (place >= 1) & (place < low[:, None]), (place >= low[:, None]) & (place < high[:, None])
    suffix = (place >= high[:, None]) & (place < length[:, None])
    after = place >= length[:, None]
    one, two, three = low - 1, high - low, length - high  # tokens of prefix, middle and suffix
    # How far each part moves in the first order, and in the second.
    ahead = torch.where(other, three + 3, 1)
    move = prefix * ahead[:, None] + middle * (three + 3)[:, None]
    move = move + suffix * torch.where(other, 2 - (one + two), 2 - two)[:, None] + after * 3
    move = torch.where(changes[:, None], move, 0)
    zero = torch.zeros_like(one)
    spots = torch.stack(
        [zero + 1, torch.where(other, zero + 2, one + 2), torch.where(other, three + 3, one + three + 3)], 1
    )
    spots = torch.where(changes[:, None], start[:, None] + spots, t + torch.arange(3, device=ids.device))
    to = torch.cat([torch.arange(t, device=ids.device) + move, spots], 1)  # (B, T + 3): every place once
    told = torch.cat([ids, torch.tensor(marks, device=ids.device).expand(b, 3)], 1)
    own = segments.gather(1, start[:, None].clamp_max(t - 1)).expand(b, 3)
    documents = torch.cat([segments, torch.where(changes[:, None], own, -1)], 1)
    return torch.empty_like(told).scatter(1, to, told), torch.empty_like(documents).scatter(1, to, documents)
