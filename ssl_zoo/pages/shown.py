"""What any objective makes of a few rows, as plain data for a page, from what its `show` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.backbones._base import TokenBackbone, Writes
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.objectives._shown import Choices, Guesses, Pairs, Pictures, Shown
from ssl_zoo.objectives.span_corruption import SpanCorruption
from ssl_zoo.pages.samples import beginning, data_uri
from ssl_zoo.transfer.features import device_of
from ssl_zoo.transfer.generate import Choice, end_of_document, follow

ROWS, LENGTH = 8, 96  # rows that an objective is asked about, and tokens of a row, at most
PROMPT, DRAWN, CONTINUATIONS = 24, 40, 3  # tokens of the prompt, tokens drawn after it, and how many times
WRITTEN: dict[Writes, str] = {  # how continuations are drawn, at a temperature of 1
    "next": "one after the other after the prompt",
    "prefix": "one after the other after the prompt, which the network reads in both directions",
    "spans": "one after the other as the span behind the prompt that a mark stands for, until it ends",
    "masks": f"in the places of masks after the prompt, in {DRAWN} steps and in any order; each has the "
    "probability with which it was drawn",
}

Likely = Sequence[tuple[str, float]]  # tokens and their probabilities, the likeliest first


class Token(NamedTuple):
    """A token as it stands in the text.

    Attributes:
        p: the probability that the network gave it; None where the network only read it.
        likely: the likeliest tokens in its place.
        hidden: its number among the hidden tokens, from 1; 0 for one that was not hidden.
    """

    text: str
    p: float | None = None
    likely: Likely = ()
    hidden: int = 0


class Thing(NamedTuple):
    """One view of a sample: an image as a data URI, or the beginning of a text; the other one is ""."""

    image: str = ""
    text: str = ""


class Guess(NamedTuple):
    """A picture, and every choice with its probability and whether it is the right one."""

    image: str
    choices: list[tuple[str, float, bool]]


@dataclass(frozen=True)
class Prediction:
    """What the template draws of one objective.

    Attributes:
        kind: which part of the template draws it; the attributes below are those of some kinds alone.
        objective: name of the class, with the name of the term where it is one of a sum.
        note: a sentence or two on what is to be seen.
        rows: where the rows are from.
        columns, pictures: of "pictures": titles, and the pictures of each sample as data URIs.
        guesses: of "choices".
        first, second, similarity: of "pairs": two views of each of B samples, and (B, B) cosines.
        tokens: of "hidden" and "scored": those of a text.
        continuations: of a text: prompts, each with the tokens drawn after it.
        written: how these were drawn.
    """

    kind: Literal["pictures", "choices", "pairs", "hidden", "scored"]
    objective: str
    note: str
    rows: str
    columns: Sequence[str] = ()
    pictures: Sequence[Sequence[str]] = ()
    guesses: Sequence[Guess] = ()
    first: Sequence[Thing] = ()
    second: Sequence[Thing] = ()
    similarity: Sequence[Sequence[float]] = ()
    tokens: Sequence[Token] = ()
    continuations: Sequence[tuple[str, Sequence[Token]]] = ()
    written: str = ""


def predict(
    objective: Objective, rows: Rows, tokenizer: Tokenizer | None, title: str, source: str
) -> Prediction | None:
    """What an objective makes of the first rows; None for one that has nothing to see.

    Args:
        rows: laid out as the objective wants them.
        tokenizer: of text; None for images alone.
        title, source: what the page calls the objective and the rows.
    """
    shown = ask(objective, rows)
    if shown is None:
        return None
    found = drawn(shown, tokenizer, title, source)
    if isinstance(shown, Guesses) and tokenizer is not None and (how := writes(objective, shown)):
        prompt = shown.ids[:PROMPT].tolist()
        runs = continuations(objective, tokenizer, prompt, DRAWN, CONTINUATIONS)
        opening = tokenizer.decode(prompt)
        return replace(found, continuations=[(opening, run) for run in runs], written=WRITTEN[how])
    return found


def writes(objective: Objective, shown: Guesses) -> Writes | None:
    """How the objective's backbone writes; None where it does not, or another term taught it."""
    how = objective.backbone.writes if isinstance(objective.backbone, TokenBackbone) else None
    taught = objective.writes or (None if shown.hidden else "next")
    return how if how == taught else None


@torch.no_grad()
def ask(objective: Objective, rows: Rows) -> Shown | None:
    """What the objective's `show` gives for the first rows, with texts cut to LENGTH. It runs on the
    objective's device, and gives the same each time."""
    batch = rows.read(np.arange(min(ROWS, len(rows))))
    device = device_of(objective.backbone)
    seed_noise(0, 0)
    was = objective.training
    objective.eval()
    try:
        return objective.show(cut(batch, device))
    finally:
        objective.train(was)
        free_noise()


def cut(batch: Batch, device: torch.device) -> Batch:
    """A batch on a device, with texts (B, T) cut to (B, LENGTH)."""
    short = lambda x: None if x is None else (x[:, :LENGTH] if x.dim() == 2 else x).to(device)  # noqa: E731
    x = short(batch.x)
    assert x is not None
    other = None if batch.other is None else cut(batch.other, device)
    return batch._replace(x=x, segments=short(batch.segments), y=short(batch.y), other=other)


def drawn(shown: Shown, tokenizer: Tokenizer | None, title: str, source: str) -> Prediction:
    """What an objective showed, with its tensors as data URIs, texts and numbers."""
    make = partial(Prediction, objective=title, note=shown.note, rows=source)
    if isinstance(shown, Pictures):
        pictures = [[data_uri(one.cpu()) for one in row] for row in zip(*shown.columns.values(), strict=True)]
        return make("pictures", columns=list(shown.columns), pictures=pictures)
    if isinstance(shown, Choices):
        guesses = []
        for image, p, right in zip(shown.images, shown.p.tolist(), shown.right.tolist(), strict=True):
            choices = [
                (name, one, i == right) for i, (name, one) in enumerate(zip(shown.names, p, strict=True))
            ]
            guesses.append(Guess(data_uri(image.cpu()), choices))
        return make("choices", guesses=guesses)
    if isinstance(shown, Pairs):
        first, second = ([thing(x, tokenizer) for x in side] for side in (shown.first, shown.second))
        similarity = shown.similarity.tolist()
        return make("pairs", first=first, second=second, similarity=similarity)
    assert tokenizer is not None
    tokens = guessed(shown, tokenizer)
    return make("hidden" if shown.hidden else "scored", tokens=tokens)


def thing(x: Tensor, tokenizer: Tokenizer | None) -> Thing:
    """A view as a page shows it: an image (C, H, W), or ids (T,), among which numbers below 0 are no ids."""
    if x.dim() == 3:
        return Thing(image=data_uri(x.cpu()))
    assert tokenizer is not None
    return Thing(text=beginning(tokenizer.decode(x[x >= 0].tolist()), 60))


def name(tokenizer: Tokenizer, token: int) -> str:
    """The text of one id. Ids that stand for no text, and bytes that are no character, get a name in ⟨⟩."""
    v = tokenizer.vocabulary
    names = {v.pad: "⟨padding⟩", v.separator: "⟨document⟩", v.mask: "⟨hidden⟩"}
    text = tokenizer.decode([token])
    if token in names or not text:
        return names.get(token, f"⟨id {token}⟩")
    return "⟨part of a character⟩" if "\ufffd" in text else text


def likely(tokenizer: Tokenizer, p: Tensor, k: int = 3) -> Likely:
    """The k likeliest tokens of a distribution (V,)."""
    best = p.topk(min(k, len(p)))
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(name(tokenizer, token), share) for token, share in found]


def guessed(shown: Guesses, tokenizer: Tokenizer) -> list[Token]:
    """The tokens of the text, with the guesses where the network made some."""
    ids = shown.ids.tolist()
    found = [Token(name(tokenizer, i)) for i in ids]
    for number, (place, p) in enumerate(zip(shown.at.tolist(), shown.p, strict=True), 1):
        hidden = number if shown.hidden else 0
        found[place] = Token(found[place].text, float(p[ids[place]]), likely(tokenizer, p), hidden)
    return found


def continuations(
    objective: Objective, tokenizer: Tokenizer, prompt: Sequence[int], length: int, count: int
) -> list[list[Token]]:
    """`count` times up to `length` tokens after a prompt, drawn from the network's own distribution.

    `likely` holds the other likeliest tokens. [] for a network that does not write, or whose output matrix is
    not its word embedding.
    """
    spans = isinstance(objective, SpanCorruption)
    end = objective.end if spans else end_of_document(tokenizer)
    never = [i for i in tokenizer.vocabulary.special if i != end]
    window = len(prompt) + length + 3 * spans  # mark, separator, mark
    try:
        runs = follow(
            objective.backbone,
            [prompt] * count,
            length,
            window,
            Choice(),
            end=end,
            never=never,
            marks=objective.marks.weight if spans else None,
        )
    except DataError:
        return []
    title = lambda i: "⟨end⟩" if spans and i == end else name(tokenizer, i)  # noqa: E731
    return [
        [Token(title(step.id), step.p, [(title(i), p) for i, p in step.alternatives]) for step in run]
        for run in runs
    ]
