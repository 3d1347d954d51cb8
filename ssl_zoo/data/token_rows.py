"""Packed rows of shards of tokens, of which few are on the disk at a time."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.shelf import File, Shelf
from ssl_zoo.data.streams import ShardRows
from ssl_zoo.data.text_rows import shift
from ssl_zoo.data.token_shards import read_tokens
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Batch


class Counted(NamedTuple):
    """What is known of a shard.

    Attributes:
        at_address: bytes of the file at its address when it was counted.
        first, each: where the tokens begin in the file that is kept here, and bytes of one.
        tokens: how many there are.
        bytes, content, digest: see `Tokens`.
    """

    at_address: int
    first: int
    each: int
    tokens: int
    bytes: int = 0
    content: int = 0
    digest: str = ""

    @property
    def size(self) -> int:
        """Bytes of the file that is kept here."""
        return self.first + self.each * self.tokens


class TokenRows(ShardRows[np.ndarray]):
    """Packed rows of shards of tokens (see `Rows`).

    Row i of a shard holds `length + lookahead` ids from i * length + shift(epoch, length) on, or its last
    ones; no row is of two shards, and what is left at the end of one is read when the cuts have moved.

    Args:
        files, counted: the shards, and what is known of each.
        shelf, window: see `ShardRows`.
        tokenizer: whose ids they are.
        length, lookahead: as of `PackedRows`.

    Attributes:
        bytes_per_token: as of `PackedRows`; None where nobody tells.

    Raises:
        DataError: all shards are shorter than a row, or one window of them is more than the shelf holds.
    """

    unit: str = "tokens"
    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        files: list[File],
        counted: list[Counted],
        shelf: Shelf,
        tokenizer: Tokenizer,
        length: int,
        lookahead: int,
        window: int,
    ):
        self.counted, tokens = counted, np.array([one.tokens for one in counted], np.int64)
        rows = np.maximum(tokens - lookahead, 0) // length
        if not rows.any():
            raise DataError(
                f"the largest of {len(files)} shards has {tokens.max():,} tokens, and one row needs "
                f"{length} + {lookahead} of lookahead: take shorter rows, or larger shards"
            )
        super().__init__(files, rows, np.array([one.size for one in counted]), shelf, window)
        self.units_per_row, self.lookahead = length, lookahead
        self.opens, self.vocabulary = tokenizer.prefix[0], tokenizer.vocabulary.size
        content = sum(one.content for one in counted)
        known = all(one.content for one in counted if one.tokens)
        self.bytes_per_token = sum(one.bytes for one in counted) / content if known else None
        names = [(file.address.rpartition("/")[2], file.size) for file in files]
        about = (tokenizer.fingerprint, length, lookahead, window, names, counted)
        self.fingerprint = hashlib.blake2b(repr(about).encode(), digest_size=16).hexdigest()

    def open(self, number: int) -> np.ndarray:
        file = self.files[number]
        with self.shelf.pinned(file) as path:
            made = read_tokens(path, file.address)
        known = self.counted[number]
        if len(made.ids) != known.tokens or (known.digest and made.digest != known.digest):
            place, kept = self.shelf.place(file), ""
            if place.parent == self.shelf.folder:
                kept = f". If it has not, remove what was kept of it, {place}"
            raise DataError(
                f"{file.address} holds {len(made.ids):,} tokens, and is not what was counted before, "
                f"{known.tokens:,} of {known.each} bytes: it has changed, or is laid out otherwise than the "
                f"first shard{kept}"
            )
        if made.ids.itemsize == 2 and self.vocabulary > 1 << 16:
            raise DataError(
                f"{file.address} holds ids of two bytes, and the tokenizer has {self.vocabulary:,}: it was "
                "made by another one, or lacks the header that llm.c writes before ids of four bytes"
            )
        return made.ids

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The rows `index` (B,): x (B, length + lookahead) int64, and segments of the same shape, the numbers
        of the documents within each row.

        Raises:
            DataError: a shard cannot be fetched or read, or holds ids that the tokenizer has not.
        """
        index = np.asarray(index, np.int64)
        length, width = self.units_per_row, self.units_per_row + self.lookahead
        x, shard = np.empty((len(index), width), np.int64), self.shards_of(index)
        for number in np.unique(shard).tolist():
            ids, here = self.opened(number), shard == number
            start = (index[here] - self.windows.starts[number]) * length + shift(epoch, length)
            x[here] = ids[np.minimum(start, len(ids) - width)[:, None] + np.arange(width)]
            if (most := x[here].max()) >= self.vocabulary:
                raise DataError(
                    f"{self.files[number].address} holds the id {most:,}, and the tokenizer has "
                    f"{self.vocabulary:,}: name the one that made it, tokenizer=pretrained "
                    "tokenizer.name=FOLDER_OR_NAME"
                )
        opened = np.cumsum(x == self.opens, axis=1)
        return Batch(torch.from_numpy(x), torch.from_numpy(opened - opened[:, :1]))
