"""Prompts and completions as rows of ids, and the loss on the completions (see `transfer.completion`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.noise import fold
from ssl_zoo.transfer.causal import Example, completion_nats
from ssl_zoo.transfer.features import evaluating
from ssl_zoo.transfer.generate import end_of_document
from ssl_zoo.transfer.unmasking import unmasking_nats

BATCH = 128  # rows at once where nothing is trained
ROUNDS = 8  # times that held-out completions are hidden, each time otherwise
Pairs = Sequence[tuple[str, str]]  # prompts, each with its completion


def join(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    completions: Sequence[str],
    length: int,
    close: Sequence[int] = (),
    fill: int | None = None,
) -> list[Example]:
    """Examples "prompt => completion" of `length` ids at most.

    A completion is cut to half of a row, its end included, and a prompt to what that leaves.

    Args:
        close: ids that end a prompt.
        fill: ids of each completion, which is filled up with ends, or cut; None: those that it has.

    Raises:
        DataError: `length` leaves no room for a prompt.
    """
    arrow = [*tokenizer.encode([" =>"])[0].tolist(), *close]
    before, end = list(tokenizer.prefix), end_of_document(tokenizer)
    found = []
    texts = zip(
        tokenizer.encode([" ".join(text.split()) for text in prompts]),
        tokenizer.encode([" " + " ".join(text.split()) for text in completions]),
        strict=True,
    )
    for prompt, completion in texts:
        after = [*completion[: length // 2 - 1].tolist(), end]
        if fill is not None:
            after = (after + [end] * fill)[:fill]
        room = length - len(before) - len(arrow) - len(after)
        if room < 1:
            raise DataError(f"rows of {length} tokens have no room for a prompt and its completion")
        start = [*before, *prompt[:room].tolist(), *arrow]
        found.append(Example(start + after, len(start)))
    return found


class Form(NamedTuple):
    """How prompts and completions become ids.

    Attributes:
        length: ids of a row at most.
        longest: ids of a completion at most, its end among them.
        close: ids that end a prompt.
        fills: whether every completion is filled up with ends to the longest, or cut to it.
    """

    tokenizer: Tokenizer
    length: int
    longest: int
    close: tuple[int, ...] = ()
    fills: bool = False

    @classmethod
    def of(cls, backbone: TokenBackbone, tokenizer: Tokenizer, length: int, longest: int = 0) -> Form:
        """The form in which a backbone is tuned that writes in its way."""
        spans, masks = backbone.writes == "spans", backbone.writes == "masks"
        close = (tokenizer.vocabulary.separator,) if spans else ()
        return cls(tokenizer, length, longest, close, masks)

    def examples(self, pairs: Pairs) -> list[Example]:
        """Prompts with their completions. Raises DataError: see `join`."""
        prompts, completions = [one for one, _ in pairs], [one for _, one in pairs]
        fill = self.longest if self.fills and self.longest else None
        return join(self.tokenizer, prompts, completions, self.length, self.close, fill)

    def starts(self, prompts: Sequence[str], tokens: int) -> list[list[int]]:
        """The ids of prompts, before completions of so many ids. Raises DataError: see `join`."""
        found = join(self.tokenizer, prompts, [""] * len(prompts), self.length, self.close, max(tokens, 1))
        return [one.ids[: one.prompt] for one in found]


def losses_of(backbone: TokenBackbone, examples: Sequence[Example], *keys: int | str) -> Tensor:
    """What the tokens of the completions add to the loss, which is the mean: (N,) nats.

    keys: decide what is hidden of them, where the backbone fills in masks.
    """
    if backbone.writes == "masks":
        return unmasking_nats(backbone, examples, fold("completion", *keys)).flatten()
    return completion_nats(backbone, examples)


def held_out(backbone: TokenBackbone, examples: Sequence[Example], device: torch.device) -> float:
    """Mean nats per token of the completions, in eval mode; of what fills in masks an upper bound of them."""
    rounds = ROUNDS if backbone.writes == "masks" else 1
    with torch.no_grad(), evaluating(backbone, device):
        parts = [
            losses_of(backbone, examples[i : i + BATCH], "held out", turn, i)
            for turn in range(rounds)
            for i in range(0, len(examples), BATCH)
        ]
    return torch.cat(parts).double().mean().item()


def draw(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Indices of the examples of one step: `batch_size` different ones of `count`, or all if that is less."""
    rng = np.random.default_rng([seed, step])
    return rng.choice(count, min(batch_size, count), replace=False)
