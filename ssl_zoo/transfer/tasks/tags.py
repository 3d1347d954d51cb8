"""A tag for each word of a sentence: a linear head on the token features of words.

Where tags mark spans (B-X, I-X), the score is F1 of whole spans, right where both ends and the kind are; else
the share of words that are told right. Words that were cut away, as a sentence was too long, are told O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_zoo.backbones._base import Features
from ssl_zoo.data.items import Item
from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer.tasks.goal import (
    DRAWS,
    IGNORED,
    Examples,
    Goal,
    Score,
    listed,
    ratio,
    resampled,
    softmax_path,
)
from ssl_zoo.transfer.tasks.names import numbered, read_names
from ssl_zoo.transfer.tasks.spans import marked, spans
from ssl_zoo.transfer.tasks.words import Words

OUTSIDE = "O"
SPAN_F1, ACCURACY = "entity F1", "token accuracy"


class Tagged(NamedTuple):
    """words and tags of a sentence, equally long."""

    file: str
    row: int | None
    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans: first word, word after the last, kind, and the words themselves."""
        found = (
            one._asdict() | {"text": " ".join(self.words[one.start : one.end])} for one in spans(self.tags)
        )
        return list(found)

    def text(self) -> str:
        """A line for people."""
        pairs = zip(self.words, self.tags, strict=True)
        return " ".join(word if tag == OUTSIDE else f"{word}/{tag}" for word, tag in pairs)

    def plain(self) -> dict[str, Any]:
        """The keys of a JSON object."""
        return {"tokens": list(self.words), "tags": list(self.tags), "spans": self.spans}


@dataclass(frozen=True)
class Tags(Goal):
    """Which of these tags each word has."""

    task: ClassVar[str] = "tags"
    classes: tuple[str, ...]

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.classes)

    @property
    def metric(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return SPAN_F1 if any(map(marked, self.classes)) else ACCURACY

    @classmethod
    def learnt(cls, train: Sequence[Item]) -> Tags:
        """The tags that train rows have. Raises DataError where there is one alone."""
        found = sorted({tag for item in train for tag in item.target})
        if len(found) < 2:
            raise DataError(
                f"all words of {train[0].file} have the tag {found[0]!r}: there is nothing to tell"
            )
        return cls(tuple(found))

    def targets(self, items: Sequence[Item]) -> list[list[int]]:
        """The number of each word's tag. Raises DataError for a tag that train lacks."""
        number = {name: i for i, name in enumerate(self.classes)}
        return [numbered(item.target, item, number, "tag") for item in items]

    def points(self, found: Features) -> Tensor:
        return found.tokens

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        if not (y != IGNORED).any():  # a mean over nothing
            return out.sum() * 0
        return F.cross_entropy(out.float().flatten(0, 1), y.flatten(), ignore_index=IGNORED)

    def labelled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x[y != IGNORED], y[y != IGNORED]

    def path(self, x: Tensor, y: Tensor, decays: Sequence[float]) -> Iterator[tuple[float, nn.Linear]]:
        return softmax_path(x, y, self.width, decays)

    def each(self, out: Tensor, y: Tensor) -> list[Tensor]:
        return [one[at] for one, at in zip(out, y != IGNORED, strict=True)]

    def scores(self, told: Sequence[Tensor], truth: Sequence[Any], draws: int = DRAWS) -> dict[str, Score]:
        rows = [self.counted(out, *one) for out, one in zip(told, truth, strict=True)]
        each = np.array(rows, np.int64)  # (N, 5)

        def both(index: np.ndarray) -> dict[str, float]:
            right, guessed, true, words_right, words = each[index].sum(0)
            f1 = {SPAN_F1: float(ratio(2 * right, guessed + true))} if self.metric == SPAN_F1 else {}
            return f1 | {ACCURACY: float(ratio(words_right, words))}

        return resampled(both, len(each), draws)

    def counted(self, out: Tensor, read: np.ndarray, tags: np.ndarray) -> tuple[int, int, int, int, int]:
        """Spans that are right, told and true, and words that are right and all, of a sentence.

        Args:
            out: (n, C), of the words that were read. read: their numbers (n,). tags: of all words (N,).
        """
        guess = self.names(out, read, len(tags))
        true = tuple(self.classes[tag] for tag in tags.tolist())
        mine, theirs = set(spans(guess)), set(spans(true))
        words = sum(a == b for a, b in zip(guess, true, strict=True))
        return len(mine & theirs), len(mine), len(theirs), words, len(true)

    def names(self, out: Tensor, read: np.ndarray, count: int) -> tuple[str, ...]:
        """The tags of all `count` words of a sentence; O of those that were not read."""
        made = [OUTSIDE] * count
        for i, best in zip(read.tolist(), out.argmax(1).tolist() if len(out) else [], strict=True):
            made[i] = self.classes[best]
        return tuple(made)

    def answers(self, told: Sequence[Tensor], items: Sequence[Item], rows: Examples) -> list[Tagged]:
        assert isinstance(rows, Words)
        return [
            Tagged(item.file, item.row, item.input, self.names(out, read, len(item.input)))
            for out, read, item in zip(told, rows.read_words, items, strict=True)
        ]

    def title(self) -> str:
        return f"tells which of {len(self.classes)} tags each word has ({listed(self.classes)})"

    def facts(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Tags:
        return cls(read_names(facts))
