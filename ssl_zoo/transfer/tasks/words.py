"""Sentences as rows of ids, of which the piece that stands for each word is known.

A word is read by its first piece, and by its last one where a backbone reads from left to right, whose first
piece has not seen the rest of the word.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

from ssl_zoo.data.items import Item, fingerprint
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.tasks.goal import IGNORED


class Words:
    """One sentence a row: x (B, T) ids, segments, and y (B, T), the tag of each word where its piece stands,
    and `IGNORED` elsewhere; 0 where tags are not known.

    Args:
        items: sentences, whose inputs are tuples of words. length: ids of a row at most.
        tags: for each sentence the number of the tag of each word; None: nobody knows them.
        last: whether a word is read by its last piece.

    Attributes:
        cut: sentences of which words were cut.
    """

    def __init__(
        self,
        items: Sequence[Item],
        tokenizer: Tokenizer,
        length: int,
        tags: Sequence[Sequence[int]] | None,
        last: bool,
    ):
        self.tags, self.pad, self.cut = tags, tokenizer.vocabulary.pad, 0
        room = length - len(tokenizer.prefix) - len(tokenizer.suffix)
        if room < 1:
            raise DataError(f"rows of {length} tokens have no room for a word: length= is longer")
        self.ids: list[np.ndarray] = []
        self.places: list[np.ndarray] = []  # of the words that are read: their piece in the row
        self.read_words: list[np.ndarray] = []  # their numbers in the sentence
        for item in items:
            ids, places, words = laid_out(item.input, tokenizer, last)
            inside = places < room
            self.cut += not inside.all()
            self.ids.append(np.concatenate([tokenizer.prefix, ids[:room], tokenizer.suffix]).astype(np.int64))
            self.places.append(places[inside] + len(tokenizer.prefix))
            self.read_words.append(words[inside])
        self.fingerprint = fingerprint([length, last, tokenizer.fingerprint, [i.input for i in items], tags])

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        width = max(len(self.ids[i]) for i in index.tolist())
        x = np.full((len(index), width), self.pad, np.int64)
        segments, y = np.full_like(x, -1), np.full_like(x, IGNORED)
        for at, i in enumerate(index.tolist()):
            ids = self.ids[i]
            x[at, : len(ids)], segments[at, : len(ids)] = ids, 0
            y[at, self.places[i]] = 0 if self.tags is None else np.asarray(self.tags[i])[self.read_words[i]]
        return Batch(torch.from_numpy(x), torch.from_numpy(segments), torch.from_numpy(y))

    def truth(self, i: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Which words were read (n,), and the tags of all words (N,)."""
        return None if self.tags is None else (self.read_words[i], np.asarray(self.tags[i], np.int64))


def laid_out(
    words: Sequence[str], tokenizer: Tokenizer, last: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of a sentence, its words parted by spaces; the piece of each word that has one, and its number.

    Pieces that are nothing but white space, as those of characters before a word, stand for no word.
    """
    runs = tokenizer.encode([f" {word}" if i else word for i, word in enumerate(words)])
    places, numbers, start = [], [], 0
    for i, run in enumerate(runs):
        own = [k for k, piece in enumerate(run.tolist()) if not is_blank(piece, tokenizer)]
        if own or len(run):
            places.append(start + (own or [0])[-1 if last else 0])
            numbers.append(i)
        start += len(run)
    ids = np.concatenate(runs) if runs else np.zeros(0, np.int64)
    return ids, np.array(places, np.int64), np.array(numbers, np.int64)


@functools.lru_cache(1 << 18)
def is_blank(piece: int, tokenizer: Tokenizer) -> bool:
    """Whether a piece is nothing but white space."""
    return not tokenizer.decode([piece]).strip()
