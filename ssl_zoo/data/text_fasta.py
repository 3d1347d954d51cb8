"""Sequences of symbols in FASTA: a header that begins with >, then the sequence, over any number of lines.

A file is FASTA by its suffix and by its first header: Farsi is written in files that end in .fa, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ssl_zoo.data.text_files import Errors, Limits, kind, lines, too_long
from ssl_zoo.data.text_names import FASTA


def is_fasta(path: Path, errors: Errors, limits: Limits) -> bool:
    """Whether a file holds FASTA. Raises DataError if its beginning cannot be read as text."""
    if kind(path) not in FASTA:
        return False
    first = next((line for line in lines(path, errors, limits) if line.strip()), "")
    return first.startswith(">")


def sequences(path: Path, errors: Errors, limits: Limits) -> Iterator[tuple[str, str]]:
    """(header without its >, sequence in one line, which may be empty) of each record.

    Raises:
        DataError: see `lines`; a sequence that is longer than a document may be is refused as well.
    """
    header: str | None = None
    parts: list[str] = []
    size = 0
    for line in lines(path, errors, limits):
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(parts)
            header, parts, size = line[1:].strip(), [], 0
        elif part := line.strip():
            parts.append(part)
            size += len(part)
            if size > limits.max_document_bytes:
                raise too_long(f"{path}: the sequence of >{header}", limits)
    if header is not None:
        yield header, "".join(parts)
