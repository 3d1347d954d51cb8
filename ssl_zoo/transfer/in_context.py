"""What a causal backbone learns from its context, without training: from more text, and from solved examples.

`InContextLoss`: the loss early in a row minus the loss late in it (Olsson et al. 2022, "In-context Learning
and Induction Heads", take the 500th token minus the 50th).

`InContextClasses`: k solved examples and a query in one prompt (Brown et al. 2020); the guess is the class
name with the highest log p(name | prompt), or with the highest

    log p(name | prompt) - log p(name | prompt with an empty query)

(PMI-DC: Holtzman et al. 2021, "Surface Form Competition", eq. 2), which takes away the names' own frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.causal import Example, completion_nats, language_model, read_packed, running_text
from ssl_zoo.transfer.features import evaluating
from ssl_zoo.transfer.measures import Data, Measured, Subject

EARLY = (8, 31)  # tokens of context, first and last
BINS = 16
LEAST = 64  # tokens of a row: with fewer, late is hardly later than early
LEAST_TEXT = 8  # tokens of each text in a prompt: with fewer, nothing is left of it


def undivided(batch: Batch) -> Tensor:
    """Which rows of a batch lie within one document, with the target of their last token: (B,) bool."""
    if batch.segments is None:
        return torch.ones(len(batch.x), dtype=torch.bool)
    return (batch.segments == batch.segments[:, :1]).all(1)


def by_context(losses: Tensor) -> tuple[float, float, list[dict[str, float]]]:
    """Early and late mean, and the curve, of losses (N, T) where column t has t + 1 tokens of context.

    The curve's items are {"first", "last", "nats"}: tokens of context, and the mean over them.
    """
    mean = losses.double().mean(0).numpy()  # (T,)
    early = mean[EARLY[0] - 1 : EARLY[1]].mean()
    late = mean[len(mean) - len(mean) // 4 :].mean()
    bins = np.array_split(np.arange(len(mean)), BINS)
    curve = [{"first": int(b[0]) + 1, "last": int(b[-1]) + 1, "nats": float(mean[b].mean())} for b in bins]
    return float(early), float(late), curve


@dataclass(frozen=True)
class InContextLoss:
    """Nats per token that context saves: the loss after 8 to 31 tokens less that in a row's last quarter.

    Only rows within one document count. So every position is averaged over the same rows, and a later one
    has more context.
    """

    name: ClassVar[str] = "in_context_loss"
    stochastic: ClassVar[bool] = False

    def begin(self, subject: Subject, data: Data, seed: int) -> Callable[[TextData], Measured]:
        """Raises DataError: no running text, no language model, or rows that are too short."""
        backbone, tokenizer = language_model(subject.backbone), subject.words()
        running_text(data)
        if subject.length < LEAST:
            raise DataError(f"rows of {subject.length} tokens are too short: early and late need {LEAST}")

        def score(data: TextData) -> Measured:
            rows = data.rows("test", tokenizer, subject.length, "packed", lookahead=1)
            losses = read_packed(backbone, rows, subject.device, undivided)
            early, late, curve = by_context(losses)
            return Measured(
                "nats_saved",
                early - late,
                others={"early": early, "late": late},
                details={"curve": curve},
                test=len(losses),
            )

        return score


class Prompts:
    """Texts and class names as the ids of a prompt: lines "text => name", then the query's "text =>"."""

    def __init__(self, tokenizer: Tokenizer, names: Sequence[str], length: int):
        self.tokenizer, self.length = tokenizer, length
        self.arrow, self.end, *self.names = (
            ids.tolist() for ids in tokenizer.encode([" =>", "\n", *(f" {name}" for name in names)])
        )

    def room(self, k: int) -> int:
        """Tokens for each of k + 1 texts."""
        line = len(self.arrow) + max(map(len, self.names))
        rest = len(self.tokenizer.prefix) + (k + 1) * line + k * len(self.end)
        return (self.length - rest) // (k + 1)

    def build(self, solved: Sequence[tuple[str, int]], queries: Sequence[str]) -> list[list[int]]:
        """One prompt for each query after the same solved examples; each text is cut to its room."""
        room = self.room(len(solved))
        texts = [" ".join(text.split()) for text in (*(text for text, _ in solved), *queries)]
        ids = [one[:room].tolist() for one in self.tokenizer.encode(texts)]
        before = list(self.tokenizer.prefix)
        for text, (_, y) in zip(ids, solved, strict=False):
            before += text + self.arrow + self.names[y] + self.end
        return [before + text + self.arrow for text in ids[len(solved) :]]


def examples(y: np.ndarray, k: int, seed: int) -> list[int]:
    """k rows of labels (N,), as evenly over the classes as k allows; the first of k + 1 are those of k."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(y))
    queues = {c: rng.permutation(np.flatnonzero(y == c)).tolist() for c in order}
    found: list[int] = []
    while len(found) < k and any(queues.values()):
        found += [queues[c].pop() for c in order if queues[c]]
    return found[:k]


@torch.no_grad()
def name_scores(subject: Subject, prompts: Sequence[list[int]], names: Sequence[list[int]]) -> Tensor:
    """log p(name | prompt) of every name after every prompt, summed over its tokens: (N, C)."""
    backbone = language_model(subject.backbone)
    found: list[Tensor] = []
    pairs = [(prompt, name) for prompt in prompts for name in names]
    with evaluating(backbone, subject.device):
        for start in range(0, len(pairs), 128):
            part = pairs[start : start + 128]
            owner = torch.tensor([i for i, (_, name) in enumerate(part) for _ in name])
            loss = completion_nats(
                backbone, [Example(prompt + name, len(prompt)) for prompt, name in part]
            ).cpu()
            found.append(torch.zeros(len(part)).index_add_(0, owner, -loss))
    return torch.cat(found).view(len(prompts), len(names))


@dataclass(frozen=True)
class InContextClasses:
    """Accuracy of classes guessed from k solved examples in the prompt, at the largest k that fits.

    Args:
        ks: numbers of solved examples. A k whose texts would be left with fewer than 8 tokens each is left
            out, with a note in details.
        limit, validation_limit: rows at most, a fixed random subset; None = all.
    """

    name: ClassVar[str] = "in_context_classes"
    stochastic: ClassVar[bool] = True
    ks: Sequence[int] = (0, 1, 4)
    limit: int | None = 500
    validation_limit: int | None = 200

    def begin(self, subject: Subject, data: Data, seed: int) -> Callable[[TextData], Measured]:
        """Raises DataError: no classes, no language model, or rows that hold no prompt."""
        language_model(subject.backbone)
        if not isinstance(data, TextData) or not data.classes:
            raise DataError(f"{data.name} has no labelled texts: in-context classes need them")
        prompts = Prompts(subject.words(), data.classes, subject.length)
        fits = [k for k in sorted(self.ks) if prompts.room(k) >= LEAST_TEXT]
        if not fits:
            raise DataError(
                f"rows of {subject.length} tokens hold no prompt of {data.name}: give longer ones"
            )
        texts, y = _labelled(data, "train", None)
        drawn = [(texts[i], int(y[i])) for i in examples(y, fits[-1], seed)]
        held_out = _labelled(data, "validation", self.validation_limit)
        chosen: dict[str, Any] = {"k": fits[-1]}
        for k in fits:
            guesses = _guess(subject, prompts, drawn[:k], held_out[0])
            right = {way: float((guess == held_out[1]).mean()) for way, guess in guesses.items()}
            best = max(right, key=lambda way: right[way])
            chosen |= {f"score_k{k}": best, f"validation_k{k}": right[best]}
        majority = int(np.bincount(y).argmax())

        def score(data: TextData) -> Measured:
            queries, truth = _labelled(data, "test", self.limit)
            found = {}
            for k in fits:
                guess = _guess(subject, prompts, drawn[:k], queries)[chosen[f"score_k{k}"]]
                found[f"accuracy_k{k}"] = float((guess == truth).mean())
            notes = [
                f"k = {k} is left out: {subject.length} tokens leave {max(0, prompts.room(k))} for each text"
                for k in sorted(set(self.ks) - set(fits))
            ]
            return Measured(
                "accuracy",
                found[f"accuracy_k{fits[-1]}"],
                others={**found, "accuracy_majority": float((truth == majority).mean())},
                chosen=chosen,
                details={"notes": notes, "examples": drawn},
                train=len(drawn),
                validation=len(held_out[1]),
                test=len(truth),
            )

        return score


def _labelled(data: TextData, split: str, limit: int | None) -> tuple[list[str], np.ndarray]:
    """Texts and labels of a split, `limit` at most: the same ones for every seed."""
    texts, y = list(data.documents(split)), data.labels(split)
    assert y is not None, "data with classes has labels"
    kept = np.sort(np.random.default_rng(0).permutation(len(y))[:limit])
    return [texts[i] for i in kept], y[kept]


def _guess(
    subject: Subject, prompts: Prompts, solved: Sequence[tuple[str, int]], queries: Sequence[str]
) -> dict[str, np.ndarray]:
    """Guessed classes (N,) by either score. The empty query comes after the same solved examples."""
    scores = name_scores(subject, prompts.build(solved, [*queries, ""]), prompts.names)  # (N + 1, C)
    raw, empty = scores[:-1], scores[-1:]
    return {"raw": raw.argmax(1).numpy(), "pmi": (raw - empty).argmax(1).numpy()}
