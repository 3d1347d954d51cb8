"""What the objectives for text predict, as plain data: nothing here trains, or touches a weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.tokens import put, take
from ssl_zoo.transfer.generate import Choice, end_of_document, follow

Likely = Sequence[tuple[str, float]]  # tokens and their probabilities, the likeliest first


class Token(NamedTuple):
    """A token as it stands in the text.

    p: the probability that the model gave it, None where it gave none (it was only read). likely: the
    likeliest tokens in its place. hidden: its number, from 1, if it was hidden, else 0.
    """

    text: str
    p: float | None = None
    likely: Likely = ()
    hidden: int = 0


class Scored(NamedTuple):
    """text: tokens of a row with their probabilities. continuations: a prompt, and the tokens after it."""

    text: list[Token]
    continuations: list[tuple[str, list[Token]]]


def shown(tokenizer: Tokenizer, token: int) -> str:
    """The text of one id; the names of ids that are no text, and of bytes that are no character."""
    v = tokenizer.vocabulary
    names = {v.pad: "⟨padding⟩", v.separator: "⟨document⟩", v.mask: "⟨hidden⟩"}
    text = tokenizer.decode([token])
    if token in names or not text:
        return names.get(token, f"⟨id {token}⟩")
    return "⟨part of a character⟩" if "\ufffd" in text else text


def likely(tokenizer: Tokenizer, probabilities: Tensor, k: int = 3) -> Likely:
    """The k likeliest tokens of a distribution (V,)."""
    best = probabilities.topk(min(k, len(probabilities)))
    return [
        (shown(tokenizer, i), p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def next_probabilities(objective: NextToken, ids: Tensor, segments: Tensor | None = None) -> Tensor:
    """ids (T,) -> (T, V): row t is the distribution of what follows ids[0..t]."""
    backbone = objective.backbone
    assert isinstance(backbone, TokenBackbone)
    within = None if segments is None else segments[None]
    code = backbone.encode(backbone.embed(ids[None]), None, within, order="causal")
    return F.linear(code.tokens[0], objective.output.weight).float().softmax(1)


@torch.no_grad()
def scored(
    objective: NextToken, tokenizer: Tokenizer, ids: Tensor, segments: Tensor | None = None
) -> list[Token]:
    """Each token of a row (T,) with the probability it had before it was read; the first one has none."""
    probabilities = next_probabilities(objective, ids, segments)
    texts = [shown(tokenizer, i) for i in ids.tolist()]
    rest = [
        Token(text, float(row[i]), likely(tokenizer, row))
        for text, i, row in zip(texts[1:], ids[1:].tolist(), probabilities[:-1], strict=True)
    ]
    return [Token(texts[0]), *rest]


def continuations(
    objective: NextToken, tokenizer: Tokenizer, prompt: Sequence[int], length: int, count: int
) -> list[list[Token]]:
    """`count` times up to `length` tokens after a prompt, drawn from the model's own distribution.

    `likely` holds the other likeliest tokens. () for a model whose output matrix is not its word embedding.
    """
    end = end_of_document(tokenizer)
    never = [i for i in tokenizer.vocabulary.special if i != end]
    window = len(prompt) + length
    try:
        runs = follow(objective.backbone, [prompt] * count, length, window, Choice(), end=end, never=never)
    except DataError:
        return []
    return [
        [
            Token(shown(tokenizer, step.id), step.p, [(shown(tokenizer, i), p) for i, p in step.alternatives])
            for step in run
        ]
        for run in runs
    ]


@torch.no_grad()
def filled(
    objective: MaskedLM, tokenizer: Tokenizer, ids: Tensor, segments: Tensor | None = None, seed: int = 0
) -> list[Token]:
    """A row (T,) with what the objective hides, and what it puts there. All hidden tokens are shown to the
    model as the mask: none as itself or as another one, as some are in training."""
    row, within = ids[None], None if segments is None else segments[None]
    candidates = ~objective.special[row]
    if within is not None:
        candidates &= within >= 0
    noise = torch.rand(row.shape, generator=torch.Generator().manual_seed(seed))
    at, valid = objective.mask(noise, row, candidates, objective.continues)
    at = at[valid].sort().values[None]  # (1, K)
    backbone = objective.backbone
    assert isinstance(backbone, TokenBackbone)
    corrupted = put(row, at, torch.full_like(at, objective.hidden))
    code = backbone.encode(backbone.embed(corrupted), None, within, order="both")
    rows = objective.transform(take(code.tokens, at)[0])
    probabilities = F.linear(rows, objective.output.weight, objective.bias).float().softmax(1)
    found = [Token(shown(tokenizer, i)) for i in ids.tolist()]
    for number, (place, p) in enumerate(zip(at[0].tolist(), probabilities, strict=True), 1):
        found[place] = Token(found[place].text, float(p[ids[place]]), likely(tokenizer, p), number)
    return found
