"""Shards of tokens: ids one after the other, as llm.c, modded-nanogpt and nanoGPT write them.

llm.c's files begin with 256 int32 (little endian): a number that tells the size of an id, a version and how
many ids follow. Those of our own are such files, and say in fields that are free there what their text was:
from field 8 on its bytes in UTF-8, then the ids that are no separators (int64 each), and 16 bytes of a digest
of all ids. nanoGPT's have no header, and ids of two bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_rows import encoded
from ssl_zoo.data.tokenizer import Tokenizer

HEADER = 1024  # bytes
KINDS = {20240520: (1, "<u2"), 20240801: (7, "<u4")}  # first number -> version, and what an id is
MOST = (1 << 31) - 1  # ids of a shard


class Tokens(NamedTuple):
    """What a shard holds.

    Attributes:
        ids: (n,) uint16 or uint32, mapped.
        first: the byte where they begin.
        bytes, content: of the text, in UTF-8, and how many of the ids are no separators; 0 = not known.
        digest: of the ids; "" = not known.
    """

    ids: np.ndarray
    first: int
    bytes: int = 0
    content: int = 0
    digest: str = ""


def read_tokens(path: Path, name: str) -> Tokens:
    """What lies in a file.

    Args:
        name: what errors call it.

    Raises:
        DataError: it holds less or more than it says, or no ids.
    """
    size = path.stat().st_size
    header = np.fromfile(path, "<i4", HEADER // 4)
    magic = int(header[0]) if len(header) == HEADER // 4 else 0
    if magic not in KINDS:
        if size < 2 or size % 2:
            raise DataError(f"{name} is no shard of tokens: it has {size:,} bytes, and an id has two")
        return Tokens(np.memmap(path, "<u2", mode="r"), 0)
    version, kind = KINDS[magic]
    count, each = int(header[2]), np.dtype(kind).itemsize
    if header[1] != version:
        raise DataError(f"{name} is of version {header[1]} of its kind, and {version} is read")
    if count < 0 or size != HEADER + count * each:
        raise DataError(
            f"{name} says that it holds {count:,} tokens of {each} bytes, and has {size - HEADER:,} bytes"
        )
    told = header[8:12].view("<i8")
    digest = header[12:16].tobytes().hex() if header[12:16].any() else ""
    ids = np.memmap(path, kind, mode="r", offset=HEADER, shape=(count,)) if count else np.empty(0, kind)
    return Tokens(ids, HEADER, int(told[0]), int(told[1]), digest)


def write_tokens(documents: Iterable[str], tokenizer: Tokenizer, file: Path, name: str) -> None:
    """Encode documents into a shard. Neither they nor their ids are held in memory.

    Args:
        name: what errors call the documents.

    Raises:
        DataError: they have too many tokens for a shard.
        OSError: the file cannot be written.
    """
    small = tokenizer.vocabulary.size <= 1 << 16
    magic = min(KINDS) if small else max(KINDS)
    version, kind = KINDS[magic]
    around = len(tokenizer.prefix) + len(tokenizer.suffix)
    digest, total, size, content = hashlib.blake2b(digest_size=16), 0, 0, 0
    header = np.zeros(HEADER // 4, "<i4")
    with file.open("wb") as out:
        out.write(header.tobytes())
        for text, parts in encoded(documents, tokenizer):
            content -= around
            for part in parts:
                row = part.astype(kind).tobytes()
                out.write(row)
                digest.update(row)
                total += len(part)
            size += len(text.encode())
        if total > MOST:
            raise DataError(f"{name} holds {total:,} tokens, and a shard has at most {MOST:,}: part it")
        header[:3] = magic, version, total
        header[8:12] = np.array([size, content + total], "<i8").view("<i4")
        header[12:16] = np.frombuffer(digest.digest(), "<i4")
        out.seek(0)
        out.write(header.tobytes())
