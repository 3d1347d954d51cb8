"""Spans of noise in text, as pure functions of uniform noise, and the text rewritten without them.

T5: Raffel et al. 2020, arXiv:1910.10683, section 3.3.4; its counts are those of seqio's code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import segment_positions


def span_counts(length: int, rate: float, mean: float) -> tuple[int, int]:
    """Of a row of this many tokens, how many are noise, and in how many spans: exact functions of its length.

    Args:
        rate: share of the tokens that are noise. mean: length of a span on average.

    Raises:
        ValueError: fewer than two tokens, or a rate or mean that cannot be.
    """
    if length < 2 or not 0 < rate < 1 or mean < 1:
        raise ValueError(
            f"{length} tokens at a rate of {rate} in spans of {mean}: take at least 2 tokens, a rate in "
            "(0, 1) and spans of at least 1 on average"
        )
    noise = min(max(round(length * rate), 1), length - 1)
    return noise, max(min(round(noise / mean), length - noise), 1)


def composition(noise: Tensor, parts: int) -> Tensor:
    """Cut n things in a row into parts of one or more, any way as likely: (B, n - 1) -> (B, parts) int64."""
    cuts = noise.argsort(1)[:, : parts - 1].sort(1).values + 1
    edges = F.pad(cuts, (1, 0))
    return edges.diff(dim=1, append=edges.new_full((len(noise), 1), noise.shape[1] + 1))


def noise_spans(noise: Tensor, rate: float, mean: float) -> tuple[Tensor, Tensor]:
    """Spans of noise among text: each row opens with text, and text lies between any two spans.

    seqio's rows end in a span, which hides the end of a short row each time; its `random_roll` mends that and
    cuts a span in two. Here the text has one part more, at the end, which may be empty.

    Args:
        noise: (B, L - 1) uniform, for rows of L tokens. rate, mean: see `span_counts`.

    Returns:
        starts: (B, S) int64, the first position of each span, ascending; and lengths: (B, S) int64.
    """
    length = noise.shape[1] + 1
    hidden, spans = span_counts(length, rate, mean)
    lengths = composition(noise[:, : hidden - 1], spans)
    # Of the text and one token more, which the last part gives back: what is before each span.
    before = composition(noise[:, hidden - 1 :], spans + 1)[:, :spans]
    return (before + lengths).cumsum(1) - lengths, lengths


class OneStack(NamedTuple):
    """Rows [inputs | targets] that one trunk reads as an encoder and a decoder, each (B, L + 2 S + 2) int64.

    ids: of the text, of marks and of ends. segments: document of each, -1 = padding. at: its place within its
    document. order: 0 at the inputs, which see each other; 1, 2, ... at the targets, which see the inputs and
    what comes before them."""

    ids: Tensor
    segments: Tensor
    at: Tensor
    order: Tensor


def one_stack(
    ids: Tensor, segments: Tensor, starts: Tensor, lengths: Tensor, mark: int, end: int
) -> OneStack:
    """Text with a mark in place of each span, and its end; then what the marks stand for, and its end.

    The marks of a document count from 0. A span ends where its document ends: what lies beyond stays text, so
    that the inputs of such a row are longer, and its targets shorter by as much. The two ends belong to the
    last document of a row.

    Args:
        ids, segments: (B, L) int64. starts, lengths: (B, S), see `noise_spans`.
        mark: id of the first mark. end: id that ends inputs and targets.
    """
    length, spans = ids.shape[1], starts.shape[1]
    first = torch.zeros_like(ids, dtype=torch.bool).scatter(1, starts, True)
    span = first.cumsum(1) - 1  # the last that has begun; -1 before the first
    begun, span = span >= 0, span.clamp_min(0)
    documents = segments.gather(1, starts)  # (B, S)
    place = torch.arange(length, device=ids.device)
    inside = place < (starts + lengths).gather(1, span)
    hidden = begun & inside & (segments == documents.gather(1, span))  # (B, L)

    among_inputs = (first | ~hidden).cumsum(1) - 1  # place of a token, or of the mark of its span
    size = among_inputs[:, -1:] + 2  # of the inputs, with their end: (B, 1)
    among_targets = size - 1 + (hidden.long() + first).cumsum(1)  # the mark stands one place before
    total = length + 2 * spans + 2
    to = torch.cat(
        [
            torch.where(hidden, among_targets, among_inputs),
            among_inputs.gather(1, starts),
            among_targets.gather(1, starts) - 1,
            size - 1,
            torch.full_like(size, total - 1),
        ],
        dim=1,
    )  # (B, total): every place once
    marks, ends = mark + segment_positions(documents), torch.full_like(size, end)
    last = segments.amax(1, keepdim=True)

    def laid_out(*parts: Tensor) -> Tensor:
        return torch.empty_like(to).scatter(1, to, torch.cat(parts, dim=1))

    documents = laid_out(segments, documents, documents, last, last)
    grouped, back = documents.sort(dim=1, stable=True)
    at = torch.empty_like(back).scatter(1, back, segment_positions(grouped))
    order = (torch.arange(total, device=ids.device) - size + 1).clamp_min(0)
    return OneStack(laid_out(ids, marks, marks, ends, ends), documents, at, order)
