"""Which positions are hidden, as pure functions of uniform noise; blocks of an image's cells: `views.blocks`.

Counts are fixed by the shape (so nothing waits for the device and compiled code compiles once):
a row that has less to hide than its share says so in `valid`.

Masked language modelling hides, in each row, round(rate * candidates) positions, and at least one
where there is a candidate (as BERT does), chosen one by one (`Tokens`: Devlin et al. 2019,
arXiv:1810.04805), by whole words (`WholeWords`: the later release of the same), or by spans
(`Spans`: SpanBERT, Joshi et al. 2020, arXiv:1907.10529, section 3.1).
"""

from __future__ import annotations

import math
import typing
from typing import final

import torch
from torch import Tensor

from ssl_zoo.backbones._base import segment_positions

ROUNDS = 4  # of filling up with whole words


def random_split(noise: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Divide positions at random (MAE, arXiv:2111.06377).

    noise (B, N) -> seen (B, keep) and unseen (B, N - keep), int64, in random order.

    Raises:
        ValueError: nothing would be seen, or all of it.
    """
    if not 0 < keep < noise.shape[1]:
        raise ValueError(f"keep must be between 1 and {noise.shape[1] - 1} of {noise.shape[1]}, not {keep}")
    order = noise.argsort(1)
    return order[:, :keep], order[:, keep:]


def prefixes(noise: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Split each document at random into a prefix, which is only read, and what is predicted after it.

    Args:
        noise: (B, T) uniform in [0, 1); of a document, the number at its first token counts. Where each row
            is one document, (B, 1) is enough.
        segments: (B, T) int64 document of each token.

    Returns:
        order: (B, T) int64, 0 in the prefix, and 1, 2, ... after it; and whether the token that follows each
        one lies beyond the prefix, (B, T) bool.
    """
    place = segment_positions(segments)
    first = torch.arange(segments.shape[1], device=segments.device) - place  # where its document begins
    length = torch.zeros_like(place).scatter_add(1, first, torch.ones_like(place)).gather(1, first)
    prefix = 1 + (noise.gather(1, first) * (length - 1)).long()
    return (place - prefix + 1).clamp_min(0), place + 1 >= prefix


def corrupt(noise: Tensor, replacement: Tensor, originals: Tensor, mask_id: int) -> Tensor:
    """What stands at hidden positions (BERT): 80 % the mask, 10 % a random id, 10 % the original.

    Args:
        noise: (B, K) uniform.
        replacement: (B, K) random ids.
        originals: (B, K) the ids that are hidden.
        mask_id: the id that hides.
    """
    return torch.where(noise < 0.8, mask_id, torch.where(noise < 0.9, replacement, originals))


class Masking(typing.Protocol):
    """Chooses what a row hides: a share `rate` of its candidates."""

    rate: float

    def __call__(
        self, noise: Tensor, ids: Tensor, candidates: Tensor, continues: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Choose.

        Args:
            noise: (B, T) uniform.
            ids: (B, T) int64.
            candidates: (B, T) bool, False at special ids and padding: those are never hidden.
            continues: (V,) bool, True for ids that continue the word before them; None if unknown.

        Returns:
            at (B, ceil(rate * T)) int64, all different within a row, and valid, of the same shape: False
            where the row had nothing more to hide. There, `at` holds some other position, which must
            neither be changed nor scored.
        """
        ...


@final
class Tokens:
    """Single tokens are hidden; every candidate is as likely as any other.

    Args:
        rate: share of the candidates to hide, in (0, 1).

    Raises:
        ValueError: a rate out of range.
    """

    def __init__(self, rate: float = 0.15):
        self.rate = _checked(rate)

    def __call__(
        self, noise: Tensor, ids: Tensor, candidates: Tensor, continues: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        rank = noise.masked_fill(~candidates, 2.0).argsort(1).argsort(1)
        return _first(rank < _budget(candidates, self.rate), self.rate)


@final
class WholeWords:
    """The tokens of a word are hidden together or not at all.

    Words are taken in random order. One that no longer fits the row's share is passed over for
    later, shorter ones (as in BERT's code), so a row may hide a little less than its share.

    Args:
        rate: share of the candidates to hide, in (0, 1).

    Raises:
        ValueError: a rate out of range; from a call, `continues` is None.
    """

    def __init__(self, rate: float = 0.15):
        self.rate = _checked(rate)

    def __call__(
        self, noise: Tensor, ids: Tensor, candidates: Tensor, continues: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if continues is None:
            raise ValueError(
                "WholeWords needs to know which ids continue a word (Vocabulary.continues), and this "
                "vocabulary does not say; use Tokens or Spans"
            )
        word, size = _groups(word_starts(ids, candidates, continues), candidates)
        order = noise.argsort(1)  # the words of each row in random order; those past the last have size 0
        size = size.gather(1, order)
        budget = _budget(candidates, self.rate)
        left, taken = budget, torch.zeros_like(candidates)
        # One round goes to the first word that does not fit, the next goes on from there with those
        # that do. Each takes at least one token if any word fits, so what is left is soon nothing.
        for _ in range(ROUNDS):
            fits = ~taken & (size <= left)
            taken = taken | (fits & ((size * fits).cumsum(1) <= left))
            left = budget - (size * taken).sum(1, keepdim=True)
        chosen = torch.zeros_like(taken).scatter(1, order, taken).gather(1, word) & candidates
        return _first(chosen, self.rate)


@final
class Spans:
    """Neighbouring words are hidden together; the last span is cut where the row's share ends.

    The row is laid out in spans of random lengths, one after another, and whole spans are taken in
    random order. Every token is therefore about as likely to be hidden, and two spans may touch, but
    not overlap. No span reaches over a position that is not a candidate (a document's end).
    Where `continues` is None, lengths count tokens, not words.

    Args:
        rate: share of the candidates to hide, in (0, 1).
        p: lengths are geometric: the probability of l is proportional to (1 - p)^(l - 1).
        longest: the largest l; p = 0.2 and longest = 10, SpanBERT's, give a mean of 3.8.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, rate: float = 0.15, p: float = 0.2, longest: int = 10):
        self.rate = _checked(rate)
        if not 0 < p < 1:
            raise ValueError(f"p must be in (0, 1), not {p}")
        if longest < 1:
            raise ValueError(f"longest must be at least 1, not {longest}")
        self.p, self.longest = p, longest

    def __call__(
        self, noise: Tensor, ids: Tensor, candidates: Tensor, continues: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        length, priority = span_lengths(noise, self.p, self.longest)
        starts = word_starts(ids, candidates, continues)
        span = torch.searchsorted(length.cumsum(1), starts.cumsum(1) - 1, right=True)  # (B, T) of each word
        return _hide_spans(span, candidates, priority, self.rate)


@final
class Runs:
    """Runs of neighbouring tokens are hidden together, as in data2vec (Baevski et al. 2022).

    Each row is cut into runs, of which the first begins at a random place, and whole runs are taken in random
    order; the last one is cut where the row's share ends. No run reaches over a position that is not a
    candidate.

    Args:
        rate: share of the candidates to hide, in (0, 1).
        length: tokens of a run.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, rate: float = 0.35, length: int = 4):
        self.rate = _checked(rate)
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.length = length

    def __call__(
        self, noise: Tensor, ids: Tensor, candidates: Tensor, continues: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        # Of one number, the whole part says where runs begin, and the rest is noise as before.
        place = noise[:, :1] * self.length  # (B, 1)
        index = torch.arange(ids.shape[1], device=ids.device)
        run = (index + place.long()) // self.length  # (B, T)
        priority = torch.cat([place % 1, noise[:, 1:]], 1)
        return _hide_spans(run, candidates, priority, self.rate)


def _hide_spans(span: Tensor, candidates: Tensor, priority: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Take whole spans in random order, until a share `rate` of the candidates is hidden.

    Args:
        span: (B, T) int64 number of the span of each position, from left to right.
        candidates: (B, T) bool; a span ends where a position is none.
        priority: (B, T) uniform noise; the spans with the lowest are taken.

    Returns:
        What a `Masking` does.
    """
    breaks = candidates.clone()
    breaks[:, 1:] &= (span[:, 1:] != span[:, :-1]) | ~candidates[:, :-1]
    group, size = _groups(breaks, candidates)
    order = priority.argsort(1)
    taken = size.gather(1, order)
    before = torch.zeros_like(size).scatter(1, order, taken.cumsum(1) - taken)  # tokens of earlier spans
    index = torch.arange(span.shape[1], device=span.device).expand_as(span)
    inside = index - (index * breaks).cummax(1).values  # place within the span, from 0
    # Half of the rows cut the last span's head: cutting tails alone would favour the row's start.
    inside = torch.where(priority[:, -1:] < 0.5, inside, size.gather(1, group) - 1 - inside)
    return _first(candidates & (before.gather(1, group) + inside < _budget(candidates, rate)), rate)


def word_starts(ids: Tensor, candidates: Tensor, continues: Tensor | None) -> Tensor:
    """Where a word begins: (B, T) bool. Arguments are those of a `Masking`.

    An id that continues a word begins one where the position before it is no candidate. Where `continues` is
    None, every candidate is a word.
    """
    starts = candidates.clone()
    if continues is not None:
        starts[:, 1:] &= ~(continues[ids[:, 1:]] & candidates[:, :-1])
    return starts


def span_lengths(noise: Tensor, p: float, longest: int) -> tuple[Tensor, Tensor]:
    """Geometric lengths in 1..longest, int64, and what is left of the noise: uniform and independent of them.

    Inverse of the distribution function: noise between F(l - 1) and F(l) gives l, and how far it
    lies between the two is the second result.
    """
    log_q = math.log1p(-p)
    steps = torch.arange(longest + 1, dtype=noise.dtype, device=noise.device)
    below = torch.expm1(steps * log_q) / math.expm1(longest * log_q)  # F(0) = 0 .. F(longest) = 1
    length = torch.searchsorted(below, noise.contiguous(), right=True).clamp(1, longest)
    floor = below[length - 1]
    return length, (noise - floor) / (below[length] - floor)


def _groups(starts: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Number the groups of each row: group (B, T) of each position, and size (B, T) of each group."""
    group = (starts.cumsum(1) - 1).clamp_min(0)
    return group, torch.zeros_like(group).scatter_add(1, group, candidates.long())


def _budget(candidates: Tensor, rate: float) -> Tensor:
    """How many positions each row hides: (B, 1) int64."""
    total = candidates.sum(1, keepdim=True)
    wanted = (total * rate).round().long().clamp(1, _count(rate, candidates.shape[1]))
    return torch.minimum(wanted, total)


def _count(rate: float, length: int) -> int:
    """How many positions a row of this length hides at most."""
    return math.ceil(rate * length)


def _first(chosen: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """The chosen positions (B, T) in ascending order, filled up with others, and which are which: (B, K)."""
    at = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, : _count(rate, chosen.shape[1])]
    return at, chosen.gather(1, at)


def _checked(rate: float) -> float:
    if not 0 < rate < 1:
        raise ValueError(f"rate must be in (0, 1), not {rate}")
    return rate
