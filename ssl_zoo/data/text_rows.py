"""Text as rows of ids: packed, where documents fill every position, and one document a row.

The stream of a split is prefix + ids + suffix of each document, one after the other. Each document opens with
its separator, so that next-token training also predicts where the next document begins, from the last token
of the one before: every position is scored.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.distributed import fold
from ssl_zoo.objectives._base import Batch

BATCH = 1 << 22  # characters of the documents encoded at a time


def shift(epoch: int, length: int) -> int:
    """How far the cuts between packed rows move in an epoch: 0 in the first, then any of 0..length-1."""
    return 0 if epoch == 0 else fold("shift", epoch) % length


def write_stream(documents: Iterable[str], tokenizer: Tokenizer, folder: Path, title: str) -> None:
    """Encode documents into `folder`, unless it exists: all of it appears at once, or none of it.

    Writes tokens.bin (uint16, or uint32 where the ids need it), offsets.npy (int64, where each document
    starts) and facts.json. Several processes may do so at the same time: the first to end wins.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        _write(documents, tokenizer, draft, title)
        for path in (*draft.iterdir(), draft):
            _sync(path)
        try:
            os.replace(draft, folder)
        except OSError:
            if not (folder / "facts.json").is_file():
                raise
        else:
            _sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _write(documents: Iterable[str], tokenizer: Tokenizer, folder: Path, title: str) -> None:
    dtype = np.uint16 if tokenizer.vocabulary.size <= 1 << 16 else np.uint32
    digest, offsets, content, size, total = hashlib.sha256(), [], 0, 0, 0
    if not sys.stderr.isatty():
        print(f"tokenizing {title} into {folder.parent}", file=sys.stderr, flush=True)
    bar = tqdm(desc=f"tokenizing {title}", unit="B", unit_scale=True, disable=None)
    with (folder / "tokens.bin").open("wb") as file, bar:
        for batch in _batches(documents):
            for text, ids in zip(batch, tokenizer.encode(batch), strict=True):
                row = np.concatenate([tokenizer.prefix, ids, tokenizer.suffix]).astype(dtype)
                offsets.append(total)
                total += len(row)
                content += len(ids)
                file.write(row.tobytes())
                digest.update(row.tobytes())
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
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _batches(documents: Iterable[str]) -> Iterable[list[str]]:
    batch, size = [], 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class PackedRows:
    """Rows cut from the stream that `write_stream` left in a folder.

    Row i holds `length + lookahead` tokens from i * length + shift(epoch, length) on; where the stream ends
    before, the row is its last `length + lookahead` tokens. The number of rows is that of epoch 0.

    Attributes:
        bytes_per_token: UTF-8 bytes of the documents per token that is content (no prefix or suffix), so
            that bits per byte = loss in bits / bytes_per_token.
        documents: how many there are in the stream.
    """

    unit: str = "tokens"
    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __init__(self, folder: Path, length: int, lookahead: int = 0):
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self._file, self._dtype, self._total = folder / "tokens.bin", facts["dtype"], facts["tokens"]
        if self._file.stat().st_size != self._total * np.dtype(self._dtype).itemsize:
            raise DataError(f"{self._file} is damaged: it should hold {self._total} tokens. Delete {folder}")
        if length < 1 or self._total < length + lookahead:
            raise DataError(
                f"the text has {self._total} tokens, and one row needs {length} + {lookahead} of lookahead: "
                "give more text or ask for shorter rows"
            )
        self._offsets = np.load(folder / "offsets.npy")
        self._length, self._lookahead = length, lookahead
        self._tokens: np.ndarray | None = None
        self.units_per_row, self.documents = length, len(self._offsets)
        self.bytes_per_token = facts["bytes"] / max(facts["content"], 1)
        self.fingerprint = f"{facts['fingerprint']}-{length}+{lookahead}"

    def __len__(self) -> int:
        return (self._total - self._lookahead) // self._length

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tokens": None}  # a loader's worker maps the file itself

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """x (B, length + lookahead); segments: document within the row from 0, None if there is only one."""
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

    `read` gives x padded to the longest row read, segments 0 on the document and -1 on the padding, and y.
    """

    unit: str = "tokens"

    def __init__(
        self,
        documents: Iterable[str],
        tokenizer: Tokenizer,
        length: int,
        y: np.ndarray | None = None,
        classes: tuple[str, ...] = (),
    ):
        room = length - len(tokenizer.prefix) - len(tokenizer.suffix)
        if room < 1:
            raise DataError(
                f"rows of {length} tokens have no room for text: a document needs {length - room + 1}"
            )
        rows = [
            np.concatenate([tokenizer.prefix, ids[:room], tokenizer.suffix]).astype(np.uint32)
            for batch in _batches(documents)
            for ids in tokenizer.encode(batch)
        ]
        self._sizes = np.array([len(row) for row in rows], dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._tokens = np.concatenate([*rows, np.zeros(1, dtype=np.uint32)])  # one more: never out of range
        self._pad, self.units_per_row, self.y, self.classes = tokenizer.vocabulary.pad, length, y, classes
        labels = b"" if y is None else y.tobytes()
        digest = hashlib.sha256(self._tokens.tobytes() + self._sizes.tobytes() + labels)
        self.fingerprint = f"{digest.hexdigest()[:16]}-{length}"

    def __len__(self) -> int:
        return len(self._sizes)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        index = np.asarray(index, dtype=np.int64)
        sizes = self._sizes[index][:, None]
        column = np.arange(sizes.max(initial=0))
        inside = column < sizes  # (B, T)
        at = np.where(inside, self._starts[index][:, None] + column, len(self._tokens) - 1)
        x = np.where(inside, self._tokens[at], self._pad).astype(np.int64)
        y = None if self.y is None else torch.from_numpy(self.y[index])
        return Batch(torch.from_numpy(x), torch.from_numpy(np.where(inside, 0, -1)), y)
