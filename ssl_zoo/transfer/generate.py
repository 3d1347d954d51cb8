"""Text from a causal backbone, one token after the other.

Temperature divides the logits; top-k keeps the k likeliest ids (Fan et al. 2018); top-p keeps the fewest
likeliest whose probabilities reach p (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration",
eq. 2). For each token the window before it is encoded again: no cache, which small backbones do not miss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.noise import fold
from ssl_zoo.transfer.causal import language_model, states
from ssl_zoo.transfer.features import device_of, evaluating

ALTERNATIVES = 3


class Step(NamedTuple):
    """One generated id.

    Attributes:
        id: the id that was drawn.
        p: the probability that the model gave it, before temperature, top-k and top-p.
        alternatives: the likeliest other ids, each with its probability, likeliest first.
    """

    id: int
    p: float
    alternatives: tuple[tuple[int, float], ...]


class Token(NamedTuple):
    """A `Step` as text; part of a character shows as U+FFFD."""

    text: str
    p: float
    alternatives: tuple[tuple[str, float], ...]


class Generated(NamedTuple):
    """A prompt and what follows it.

    Attributes:
        prompt: the text that was given.
        text: what follows the prompt.
        tokens: the same, token by token.
        ended: whether the document came to its end.
    """

    prompt: str
    text: str
    tokens: tuple[Token, ...]
    ended: bool


@dataclass(frozen=True)
class Choice:
    """How the next id is drawn.

    Args:
        temperature: divides the logits, finite; 0 takes the likeliest id.
        top_k: ids to draw from at most; None = all. top_p: probability to keep; 1 = all.
        seed: decides all draws; row i draws the same whatever the other rows are.

    Raises:
        ValueError: a setting under which nothing can be drawn.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is 0 or more, and finite, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is 1 or more, not {self.top_k}; None keeps all")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is above 0 and at most 1, not {self.top_p}")


def probabilities(logits: Tensor, choice: Choice) -> Tensor:
    """The probabilities that ids are drawn with: logits (B, V) -> (B, V) float64.

    Of ids that are equally likely, top-k and top-p keep the first.
    """
    if choice.temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float64).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    ordered, order = logits.double().sort(dim=1, descending=True, stable=True)
    p = (ordered / choice.temperature).softmax(1)
    if choice.top_k is not None:
        p[:, choice.top_k :] = 0
        p = p / p.sum(1, keepdim=True)
    p = torch.where(p.cumsum(1) - p < choice.top_p, p, 0.0)  # kept: what lies before does not reach it
    p = p / p.sum(1, keepdim=True)
    return torch.zeros_like(p).scatter_(1, order, p)


def draw(p: Tensor, u: Tensor) -> Tensor:
    """The ids at which the running sum of p (B, V) first exceeds u (B,) in [0, 1): (B,) int64."""
    at = torch.searchsorted(p.cumsum(1), u[:, None].to(p), right=True)[:, 0]
    last = p.shape[1] - 1 - (p > 0).flip(1).int().argmax(1)  # a sum may stay a rounding error below 1
    return torch.minimum(at, last)


@torch.no_grad()
def follow(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    length: int,
    choice: Choice,
    *,
    end: int,
    never: Sequence[int] = (),
    device: torch.device | None = None,
) -> list[list[Step]]:
    """The ids that follow each prompt of ids: up to `tokens`, and `end` with which a row stops.

    Args:
        tokens: how many ids follow a prompt at most.
        length: ids in the window that is read; the earliest leave it first.
        end: the id with which a document ends.
        never: ids that are not drawn. Probabilities are those among all others.
        device: where the backbone runs meanwhile; None: where it is.

    Raises:
        DataError: no language model, an empty prompt, or a window longer than the backbone takes.
        ValueError: fewer than 0 tokens, or a window without room for an id.
    """
    if tokens < 0 or length < 1:
        raise ValueError(f"at least 0 tokens follow, out of a window of at least 1, not {tokens=}, {length=}")
    model = language_model(backbone)
    place = device_of(model) if device is None else device
    if not all(prompts):
        raise DataError("a prompt without ids: a tokenizer with no prefix needs at least one token of text")
    rows, found = [list(prompt) for prompt in prompts], [[] for _ in prompts]
    noise = [
        torch.rand(tokens, generator=torch.Generator().manual_seed(fold("generate", choice.seed, i)))
        for i in range(len(rows))
    ]
    with evaluating(model, place):
        weight = model.word_embedding().weight
        for step in range(tokens):
            active = [i for i in range(len(rows)) if not found[i] or found[i][-1].id != end]
            if not active:
                break
            windows = [rows[i][-length:] for i in active]
            x = torch.zeros(len(active), max(map(len, windows)), dtype=torch.int64)
            for row, window in zip(x, windows, strict=True):
                row[: len(window)] = torch.tensor(window)
            last = torch.tensor([len(window) - 1 for window in windows], device=place)
            code = states(model, x.to(place))[torch.arange(len(active), device=place), last]  # (B, D)
            logits = (code @ weight.T).float().cpu()
            logits[:, list(never)] = -torch.inf
            ids = draw(probabilities(logits, choice), torch.stack([noise[i][step] for i in active]))
            p = logits.softmax(1)
            top = p.topk(min(ALTERNATIVES + 1, p.shape[1]), dim=1)
            for n, i in enumerate(active):
                drawn = int(ids[n])
                others = zip(top.indices[n].tolist(), top.values[n].tolist(), strict=True)
                alternatives = [one for one in others if one[0] != drawn][:ALTERNATIVES]
                found[i].append(Step(drawn, float(p[n, drawn]), tuple(alternatives)))
                rows[i].append(drawn)
    return found


def end_of_document(tokenizer: Tokenizer) -> int:
    """The id after a document's last token in packed rows: its own suffix, or the next one's prefix."""
    return (*tokenizer.suffix, *tokenizer.prefix, tokenizer.vocabulary.separator)[0]


def generate(
    backbone: Backbone,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    tokens: int = 100,
    length: int = 128,
    choice: Choice | None = None,
    device: torch.device | None = None,
) -> list[Generated]:
    """Text that follows each prompt, as it would in a document that begins with the prompt.

    Args:
        tokens: at most so many; a document that ends before stops. length: see `follow`.
        choice: None = draws from the model's own distribution with seed 0.

    Raises:
        DataError, ValueError: see `follow`.
    """
    end = end_of_document(tokenizer)
    never = [i for i in tokenizer.vocabulary.special if i != end]
    starts = [[*tokenizer.prefix, *ids.tolist()] for ids in tokenizer.encode(prompts)]
    choice = choice or Choice()
    runs = follow(backbone, starts, tokens, length, choice, end=end, never=never, device=device)

    def show(i: int) -> str:
        return "<end>" if i == end else tokenizer.decode([i])

    made = []
    for prompt, steps in zip(prompts, runs, strict=True):
        shown = tuple(Token(show(s.id), s.p, tuple((show(i), p) for i, p in s.alternatives)) for s in steps)
        text = tokenizer.decode([step.id for step in steps])
        made.append(Generated(prompt, text, shown, bool(steps) and steps[-1].id == end))
    return made
