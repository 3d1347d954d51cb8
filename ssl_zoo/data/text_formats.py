"""How samples are written down in a file: running text, tables, labels before the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_chats import as_text
from ssl_zoo.data.text_fasta import is_fasta, sequences
from ssl_zoo.data.text_files import LIMITS, Errors, Limits, kind, lines, refuse_other, too_long
from ssl_zoo.data.text_names import WHOLE
from ssl_zoo.data.text_tables import (
    JSON,
    Row,
    check_delimiter,
    field,
    label_of,
    looks_like,
    objects,
    table,
    text_of,
)
from ssl_zoo.data.text_tally import Tally


class Sample(NamedTuple):
    """key: what makes two samples the same one, for leaving test samples out of training. file: that it was
    read from. row: its number in that file, from 0, as a table counts its rows without the names; None where
    the file is one document."""

    text: str
    label: str | None = None
    key: str | None = None
    file: str = ""
    row: int | None = None


class Format(Protocol):
    """How the samples of one file are written down. Its repr takes part in the cache key.

    `samples` counts in `tally` what it leaves out.
    """

    def samples(
        self, path: Path, errors: Errors = "strict", limits: Limits = LIMITS, tally: Tally | None = None
    ) -> Iterator[Sample]: ...


@dataclass(frozen=True)
class Text:
    """Running text. Notes and source code are one document a file, others are parted by `separator`.

    A .jsonl file holds one a line: objects, or the texts themselves. Each sequence of a FASTA file is one.
    A conversation is one, written as `text_chats` says.

    Attributes:
        separator: what ends a document: "blank_line", "line", or the "file".
        key: where a JSON object has its text.
    """

    separator: Literal["blank_line", "line", "file"] = "blank_line"
    key: str = "text"

    def __post_init__(self):
        if self.separator not in ("blank_line", "line", "file"):
            raise DataError(f"separator is blank_line, line or file, not {self.separator}")

    def samples(
        self, path: Path, errors: Errors = "strict", limits: Limits = LIMITS, tally: Tally | None = None
    ) -> Iterator[Sample]:
        refuse_other(path)
        if kind(path) in JSON:
            for number, row in enumerate(objects(path, errors, limits)):
                where = f"{path}, line {row.number}: {self.key!r}"
                value = row.fields if isinstance(row.fields, str) else field(row, self.key, path)
                text = text_of(as_text(value, where, tally), where, errors)
                yield from _unless_null(Sample(text or "", row=number), text, path, row, tally)
        elif is_fasta(path, errors, limits):
            for number, (header, sequence) in enumerate(sequences(path, errors, limits)):
                if tally is not None:
                    tally.add("header(s) of sequences left out", f"{path}: >{header[:40]}")
                yield Sample(sequence, row=number)
        elif self.separator == "line" and kind(path) not in WHOLE:
            every = (line.strip() for line in _running(path, errors, limits, tally))
            yield from (Sample(line, row=number) for number, line in enumerate(filter(None, every)))
        else:
            whole = kind(path) in WHOLE or self.separator == "file"
            document: list[str] = []
            size, number = 0, 0
            for line in _running(path, errors, limits, tally):
                if whole or line.strip():
                    document.append(line)
                    size += len(line)
                    if size > limits.max_document_bytes:
                        raise too_long(f"{path}: a document", limits)
                elif document:
                    yield Sample("".join(document).removesuffix("\n"), row=number)
                    document, size, number = [], 0, number + 1
            if document:
                text = "".join(document)
                yield Sample(text) if whole else Sample(text.removesuffix("\n"), row=number)


def _running(path: Path, errors: Errors, limits: Limits, tally: Tally | None) -> Iterator[str]:
    """The lines of running text; `tally` is told where they look like something else."""
    rows = lines(path, errors, limits)
    head = list(islice(rows, 2))
    if tally is not None and kind(path) not in WHOLE and (found := looks_like(head)):
        tally.add(f"file(s) read as running text that look like {found}", str(path))
    return chain(head, rows)


@dataclass(frozen=True)
class Table:
    """CSV, or TSV (no quoting) with delimiter "\\t", or JSON (.jsonl, .json): one sample a row.

    A cell that holds a conversation is written as `text_chats` says.

    Attributes:
        text: column of the text, or several to put together with `join`. A number counts from 0; names
            are looked up in the first row, or in a JSON object.
        label: column of the label. Rows without one are left out.
        key: column that tells whether a row of train also is in another split, and so is left out.
    """

    text: int | str | Sequence[int | str]
    label: int | str | None = None
    key: int | str | None = None
    delimiter: str = ","
    join: str = ". "

    def __post_init__(self):
        check_delimiter(self.delimiter)
        if not isinstance(self.text, int | str) and not self.text:
            raise DataError("text names no column: give the number or the name of one, or several")
        several = isinstance(self.text, Sequence) and not isinstance(self.text, str)
        columns = [*self.text] if several else [self.text]  # pyright: ignore[reportGeneralTypeIssues]
        for column in (*columns, *(c for c in (self.label, self.key) if c is not None)):
            if not isinstance(column, str) and (type(column) is not int or column < 0):
                raise DataError(f"a column is a name, or a number that counts from 0, and not {column!r}")
        if not isinstance(self.join, str):
            raise DataError(f"join is the text between columns, and not {self.join!r}")

    def samples(
        self, path: Path, errors: Errors = "strict", limits: Limits = LIMITS, tally: Tally | None = None
    ) -> Iterator[Sample]:
        columns = [self.text] if isinstance(self.text, int | str) else list(self.text)
        named = any(isinstance(column, str) for column in (*columns, self.label, self.key))
        rows, labelled = 0, False
        for row in table(path, errors, self.delimiter, named, limits, tally):
            where, rows = f"{path}, line {row.number}", rows + 1
            at = [f"{where}: {c!r}" for c in columns]
            cells = [as_text(field(row, c, path), here, tally) for c, here in zip(columns, at, strict=True)]
            fields = [text_of(cell, here, errors) for cell, here in zip(cells, at, strict=True)]
            text = None if all(f is None for f in fields) else self.join.join(f or "" for f in fields)
            if text is not None and not any(f and f.strip() for f in fields):
                text = ""  # nothing but what joins the columns
            key = (
                None if self.key is None else text_of(_or_null(row, self.key, path), f"{where}: key", errors)
            )
            label = None
            if self.label is not None:
                label = label_of(_or_null(row, self.label, path), f"{where}: label {self.label!r}")
                labelled = labelled or label is not None
                if label is None:
                    if tally is not None:
                        tally.add("row(s) without a label left out", where)
                    continue
            yield from _unless_null(Sample(text or "", label, key, row=rows - 1), text, path, row, tally)
        if rows and self.label is not None and not labelled:
            raise DataError(f"{path}: none of its {rows:,} rows has a label in {self.label!r}")


def _or_null(row: Row, column: int | str, path: Path) -> object:
    """The value in a column; null where a JSON object lacks it."""
    return row.fields.get(column) if isinstance(row.fields, dict) else field(row, column, path)


def _unless_null(
    sample: Sample, text: str | None, path: Path, row: Row, tally: Tally | None
) -> Iterator[Sample]:
    if text is not None:
        yield sample
    elif tally is not None:
        tally.add("null text(s) left out", f"{path}, line {row.number}")


@dataclass(frozen=True)
class Prefixed:
    """One sample a line, its label before the text: `NUM:dist How far is it ...` (TREC).

    Attributes:
        until: what ends the label: ":" gives the coarse labels (NUM), " " the fine ones (NUM:dist).
    """

    until: str = ":"

    def __post_init__(self):
        if not self.until:
            raise DataError("until is empty: it is what ends a label, such as ':' or ' '")

    def samples(
        self, path: Path, errors: Errors = "strict", limits: Limits = LIMITS, tally: Tally | None = None
    ) -> Iterator[Sample]:
        refuse_other(path)
        if kind(path) in JSON:
            raise DataError(f"{path} is a table of JSON: format Table reads it, not Prefixed")
        rows = 0
        for number, line in enumerate(lines(path, errors, limits), 1):
            word, _, text = line.strip().partition(" ")
            if not word:
                continue
            label = label_of(f"{word} ".partition(self.until)[0], f"{path}, line {number}")
            if self.until not in f"{word} " or label is None:
                raise DataError(
                    f"{path}, line {number} does not start with a label that ends in {self.until!r}"
                )
            yield Sample(text, label, row=rows)
            rows += 1
