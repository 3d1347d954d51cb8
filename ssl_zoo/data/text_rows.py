"""Text as rows of ids: packed, where documents fill every position, and one document a row.

The stream of a split is prefix + ids + suffix of each document, one after the other. Each document opens with
its separator, so that next-token training also predicts where the next document begins, from the last token
of the one before: every position is scored.
"""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ssl_zoo.data.cache import store
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.messages import note
from ssl_zoo.noise import fold
from ssl_zoo.objectives._base import Batch

BATCH = 1 << 22  # characters of the documents encoded at a time


def shift(epoch: int, length: int) -> int:
    """How far the cuts between packed rows move in an epoch: 0 in the first, then any of 0..length-1."""
    return 0 if epoch == 0 else fold("shift", epoch) % length


def write_stream(
    documents: Iterable[str], tokenizer: Tokenizer, folder: Path, title: str, notes: Collection[str] = ()
) -> None:
    """Encode documents into the store `folder` of the cache, unless it is there and whole (see cache.py).

    Writes tokens.bin (uint16, or uint32 where the ids need it), offsets.npy (int64, where each document
    starts) and facts.json, which also keeps the `notes` that reading the documents left. Neither documents
    nor ids are held in memory, but for about BATCH characters of them.
    """
    store(folder, title, lambda draft: _write(documents, tokenizer, title, notes, draft))


def _write(
    documents: Iterable[str], tokenizer: Tokenizer, title: str, notes: Collection[str], folder: Path
) -> None:
    dtype = np.uint16 if tokenizer.vocabulary.size <= 1 << 16 else np.uint32
    digest, offsets, content, size, total = hashlib.sha256(), array("q"), 0, 0, 0
    if not sys.stderr.isatty():
        note(f"tokenizing {title} into {folder.parent}")
    bar = tqdm(desc=f"tokenizing {title}", unit="B", unit_scale=True, disable=None)
    around = len(tokenizer.prefix) + len(tokenizer.suffix)
    with (folder / "tokens.bin").open("wb") as file, bar:
        for text, parts in encoded(documents, tokenizer):
            offsets.append(total)
            content -= around
            for part in parts:
                row = part.astype(dtype).tobytes()
                file.write(row)
                digest.update(row)
                total += len(part)
                content += len(part)
            length = len(text.encode())
            size += length
            bar.update(length)
    np.save(folder / "offsets.npy", np.asarray(offsets, dtype=np.int64))
    digest.update(np.asarray(offsets, dtype=np.int64).tobytes())
    facts = {
        "tokens": total,
        "content": content,
        "bytes": size,
        "dtype": np.dtype(dtype).name,
        "fingerprint": digest.hexdigest()[:16],
        "notes": list(notes),
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def encoded(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[str, Iterable[np.ndarray]]]:
    """Each document, and prefix + ids + suffix of it, int64, in parts."""
    for batch in _batches(documents):
        yield from zip(batch, _encoded(batch, tokenizer), strict=True)


def _encoded(batch: list[str], tokenizer: Tokenizer) -> Iterator[Iterable[np.ndarray]]:
    """prefix + ids + suffix of each text; those of a text that is alone come in parts."""
    if len(batch) == 1:
        ids = (tokenizer.encode([part])[0] for part in tokenizer.parts(batch[0]))
        yield chain([np.asarray(tokenizer.prefix)], ids, [np.asarray(tokenizer.suffix)])
    else:
        for ids in tokenizer.encode(batch):
            yield [np.concatenate([tokenizer.prefix, ids, tokenizer.suffix])]


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Runs of documents of about BATCH characters; a longer document is alone."""
    batch, size = [], 0
    for text in documents:
        if batch and size + len(text) > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


class PackedRows:
    """Rows cut from the stream that `write_stream` left in a folder.

    Row i holds `length + lookahead` tokens from i * length + shift(epoch, length) on; where the stream ends
    before, the row is its last `length + lookahead` tokens. The number of rows is that of epoch 0.

    Args:
        folder: what `write_stream` wrote.
        length: tokens that a row is trained on.
        lookahead: tokens of the next row that it holds besides.

    Attributes:
        bytes_per_token: UTF-8 bytes of the documents per token that is content (no prefix or suffix), so
            that bits per byte = loss in bits / bytes_per_token.
        documents: how many there are in the stream.
        notes: what was said of the text when it was read.

    Raises:
        DataError: the folder is damaged, or the stream is shorter than a row.
    """

    unit: str = "tokens"
    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __init__(self, folder: Path, length: int, lookahead: int = 0):
        self._file = folder / "tokens.bin"
        try:
            facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            self._dtype, self._total = np.dtype(facts["dtype"]).name, int(facts["tokens"])
            self._offsets = np.load(folder / "offsets.npy")
            if self._file.stat().st_size != self._total * np.dtype(self._dtype).itemsize:
                raise ValueError(f"tokens.bin should hold {self._total} tokens")
        except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
            raise DataError(f"the token store {folder} is damaged ({error}): delete that folder") from error
        if length < 1 or self._total < length + lookahead:
            raise DataError(
                f"the text has {self._total} tokens, and one row needs {length} + {lookahead} of lookahead: "
                "give more text or ask for shorter rows"
            )
        self._length, self._lookahead = length, lookahead
        self._tokens: np.ndarray | None = None
        self.units_per_row, self.documents = length, len(self._offsets)
        self.bytes_per_token = facts["bytes"] / max(facts["content"], 1)
        self.notes: tuple[str, ...] = tuple(facts.get("notes", ()))
        self.fingerprint = f"{facts['fingerprint']}-{length}+{lookahead}"

    def __len__(self) -> int:
        return (self._total - self._lookahead) // self._length

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tokens": None}  # a loader's worker maps the file itself

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The rows `index` (B,): x (B, length + lookahead) int64, and segments of the same shape.

        Segments number the documents within a row from 0, and are None where the stream is one document.
        `epoch` decides where rows begin (see `shift`).
        """
        if self._tokens is None:
            self._tokens = np.memmap(self._file, dtype=self._dtype, mode="r")
        width = self._length + self._lookahead
        start = np.asarray(index, dtype=np.int64) * self._length + shift(epoch, self._length)
        at = np.minimum(start, self._total - width)[:, None] + np.arange(width)  # (B, length + lookahead)
        x = torch.from_numpy(self._tokens[at].astype(np.int64))
        if self.documents == 1:
            return Batch(x)
        document = np.searchsorted(self._offsets, at, side="right")
        return Batch(x, torch.from_numpy(document - document[:, :1]))


class DocumentRows:
    """One document a row: prefix + ids + suffix, its ids cut so that the whole fits into `length`.

    `read` gives x (B, T) int64, segments (B, T), which are 0 on the document and -1 on the padding, and
    y (B,) or None. T is that of the longest row that is read, or the same for all.

    Args:
        documents: N texts; read once.
        length: the most tokens of a row, prefix and suffix included.
        y: (N,) int64 labels, or None.
        classes: names of the labels; () without labels.
        even: whether T is `length` whatever is read. A batch that is read in parts is then what it is
            undivided, and so is the noise that is drawn for its tokens.

    Attributes:
        cut: how many of the documents had more tokens than fit.

    Raises:
        DataError: a row has no room for text, or a text holds half a surrogate pair.
    """

    unit: str = "tokens"

    def __init__(
        self,
        documents: Iterable[str],
        tokenizer: Tokenizer,
        length: int,
        y: np.ndarray | None = None,
        classes: tuple[str, ...] = (),
        even: bool = False,
    ):
        room = length - len(tokenizer.prefix) - len(tokenizer.suffix)
        if room < 1:
            raise DataError(
                f"rows of {length} tokens have no room for text: a document needs {length - room + 1}"
            )
        sizes, tokens = array("q"), []
        self.cut = 0
        for batch in _batches(documents):
            encoded = tokenizer.encode(batch)
            self.cut += sum(len(ids) > room for ids in encoded)
            rows = [
                np.concatenate([tokenizer.prefix, ids[:room], tokenizer.suffix]).astype(np.uint32)
                for ids in encoded
            ]
            sizes.extend(map(len, rows))
            tokens.append(np.concatenate(rows))
        self._sizes = np.array(sizes, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._tokens = np.concatenate([*tokens, np.zeros(1, dtype=np.uint32)])  # one more: never out of range
        self._pad, self.units_per_row, self.y, self.classes = tokenizer.vocabulary.pad, length, y, classes
        labels = b"" if y is None else y.tobytes()
        digest = hashlib.sha256(self._tokens.tobytes() + self._sizes.tobytes() + labels)
        self.fingerprint = f"{digest.hexdigest()[:16]}-{length}{'-even' if even else ''}"
        self._even = even

    def __len__(self) -> int:
        return len(self._sizes)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        index = np.asarray(index, dtype=np.int64)
        sizes = self._sizes[index][:, None]
        column = np.arange(self.units_per_row if self._even else sizes.max(initial=0))
        inside = column < sizes  # (B, T)
        at = np.where(inside, self._starts[index][:, None] + column, len(self._tokens) - 1)
        x = np.where(inside, self._tokens[at], self._pad).astype(np.int64)
        y = None if self.y is None else torch.from_numpy(self.y[index])
        return Batch(torch.from_numpy(x), torch.from_numpy(np.where(inside, 0, -1)), y)
