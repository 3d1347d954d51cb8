"""Text from a backbone that writes (`backbones._base.Writes`).

One that predicts the next token writes one after the other, of which each sees what is before it: the whole
text ("next"), or a prefix that sees itself whole and then what was written ("prefix", "spans"). Each token is
read once, as long as the text fits into its window (`transfer.reading`). One that fills in masks begins with
a mask for each token that is to come (`transfer.unmasking`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.transfer.causal import writer
from ssl_zoo.transfer.features import device_of, evaluating
from ssl_zoo.transfer.reading import Reader
from ssl_zoo.transfer.sampling import Choice, Step, draw, drawn, probabilities
from ssl_zoo.transfer.streaming import Stream
from ssl_zoo.transfer.unmasking import fill_in

__all__ = [
    "Choice",
    "Generated",
    "Step",
    "Token",
    "draw",
    "end_of_document",
    "follow",
    "generate",
    "probabilities",
]


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
    marks: Tensor | None = None,
    steps: int | None = None,
    device: torch.device | None = None,
    told: Callable[[int, Step], object] | None = None,
) -> list[list[Step]]:
    """The ids that follow each prompt of ids: up to `tokens`, and `end` with which a row stops.

    Args:
        prompts: what is continued. Of a backbone that writes "spans", without marks, the whole inputs, their
            separator at the end.
        tokens: how many ids follow a prompt at most.
        length: ids in the window that is read; the earliest leave it first.
        end: the id with which a document ends.
        never: ids that are not drawn. Probabilities are those among all others.
        marks: (K, D), K = 2 or more, of a backbone that writes "spans": the vectors of its objective's marks.
            What follows is then the span that mark 0 stands for, behind the prompt: inputs are prompt, mark 0
            and separator, and targets begin with mark 0 (T5: Raffel et al. 2020, section 3.1.4). Mark 1 ends
            it as `end` does, which has the probability of both.
        steps: in how many masks are filled in; None: one for each token. Others take no steps.
        device: where the backbone runs meanwhile; None: where it is.
        told: is handed the number of a row and an id of it as soon as that is drawn. Where masks are filled
            in, nobody is told.

    Raises:
        DataError: a backbone that does not write, an empty prompt, or a window longer than it takes.
        ValueError: fewer than 0 tokens, a window without room for an id (or, where masks are filled in, for
            all tokens and one more), or marks of a backbone that has none.
    """
    if tokens < 0 or length < 1:
        raise ValueError(f"at least 0 tokens follow, out of a window of at least 1, not {tokens=}, {length=}")
    model = writer(backbone)
    if not all(prompts):
        raise DataError("a prompt without ids: a tokenizer with no prefix needs at least one token of text")
    if marks is not None and model.writes != "spans":
        raise ValueError(f"marks stand for spans, and this {type(model).__name__} writes {model.writes!r}")
    if model.writes == "masks":
        if tokens >= length:
            raise ValueError(f"a window of {length} ids has no room for {tokens} masks and what is before")
        windows = [prompt[tokens - length :] for prompt in prompts]
        return fill_in(model, windows, tokens, choice, end=end, never=never, steps=steps, device=device)
    place = device_of(model) if device is None else device
    rows, found = [list(prompt) for prompt in prompts], [[] for _ in prompts]
    inputs = [len(prompt) for prompt in prompts]
    if marks is not None and model.vocabulary is not None:
        first = model.word_embedding().num_embeddings  # the id of mark 0
        rows = [[*row, first, model.vocabulary.separator, first] for row in rows]
        inputs, marks = [count + 2 for count in inputs], marks.detach().to(place)
    noise = [choice.noise(i, tokens) for i in range(len(rows))]
    with evaluating(model, place):
        weight = model.word_embedding().weight
        reader = Reader(model, inputs, length, place, None if marks is None else marks[0])
        for step in range(tokens):
            active = [i for i in range(len(rows)) if not found[i] or found[i][-1].id != end]
            if not active:
                break
            code = reader.last(rows, active)
            scores = code @ weight.T
            if marks is not None:
                scores[:, end] = torch.logaddexp(scores[:, end], code @ marks[1])
            logits = scores.float().cpu()
            logits[:, list(never)] = -torch.inf
            taken = drawn(logits, choice, torch.stack([noise[i][step] for i in active]))
            for i, one in zip(active, taken, strict=True):
                found[i].append(one)
                rows[i].append(one.id)
                if told is not None:
                    told(i, one)
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
    starts: Sequence[Sequence[int]] | None = None,
    marks: Tensor | None = None,
    steps: int | None = None,
    device: torch.device | None = None,
    heard: Callable[[int, str], object] | None = None,
) -> list[Generated]:
    """Text that follows each prompt, as it would in a document that begins with the prompt.

    Args:
        tokens: at most so many; a document that ends before stops. length, marks, steps: see `follow`.
        choice: None = draws from the model's own distribution with seed 0.
        starts: the ids of each prompt, in another form than the beginning of a document; None: in this one.
        heard: is handed the number of a prompt and the next piece of what follows it, as soon as that is
            known: where masks are filled in, when all of them are.

    Raises:
        DataError: a backbone that writes "spans", without starts or marks; and see `follow`.
        ValueError: see `follow`.
    """
    if writer(backbone).writes == "spans" and marks is None and starts is None:
        raise DataError(
            f"this {type(backbone).__name__} writes what a mark stands for, and an exported backbone has no "
            "marks: give those of its objective (objective.marks.weight), or take protocol=completion"
        )
    end = end_of_document(tokenizer)
    never = [i for i in tokenizer.vocabulary.special if i != end]
    streams = [Stream(tokenizer) for _ in prompts]

    def told(i: int, step: Step) -> None:
        if heard is not None and (text := streams[i].add(step.id)):
            heard(i, text)

    runs = follow(
        backbone,
        opened(tokenizer, prompts) if starts is None else starts,
        tokens,
        length,
        choice or Choice(),
        end=end,
        never=never,
        marks=marks,
        steps=steps,
        device=device,
        told=told,
    )

    def show(i: int) -> str:
        return "<end>" if i == end else tokenizer.decode([i])

    made = []
    for i, (prompt, run) in enumerate(zip(prompts, runs, strict=True)):
        shown = tuple(Token(show(s.id), s.p, tuple((show(i), p) for i, p in s.alternatives)) for s in run)
        text = tokenizer.decode([step.id for step in run])
        left = streams[i].open() if streams[i].ids else text
        if heard is not None and left:
            heard(i, left)
        made.append(Generated(prompt, text, shown, bool(run) and run[-1].id == end))
    return made


def opened(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """The ids of documents that begin with these texts."""
    return [[*tokenizer.prefix, *ids.tolist()] for ids in tokenizer.encode(prompts)]
