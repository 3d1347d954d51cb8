"""How samples are written down in a file: running text, tables, labels before the text.

Any file may be packed as .gz or .xz. Text is UTF-8; a byte order mark is dropped and CRLF becomes LF.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol, cast

from ssl_zoo.data.rows import DataError

Errors = Literal["strict", "replace"]
WHOLE = {".md", ".rst", ".py"}


class Sample(NamedTuple):
    """key: what makes two samples the same one, for leaving test samples out of training."""

    text: str
    label: str | None = None
    key: str | None = None


class Format(Protocol):
    """How the samples of one file are written down. Its repr takes part in the cache key."""

    def samples(self, path: Path, errors: Errors) -> Iterator[Sample]: ...


def lines(path: Path, errors: Errors = "strict") -> Iterator[str]:
    """Lines of a UTF-8 file, each with its line feed.

    Raises:
        DataError: the file cannot be read or unpacked, or a byte is not UTF-8 (with its offset in the
            unpacked text).
    """
    offset = 0
    try:
        with _open(path) as stream:
            for raw in stream:
                if offset == 0:
                    bom = raw.startswith(b"\xef\xbb\xbf")
                    raw, offset = (raw[3:], 3) if bom else (raw, 0)
                yield raw.decode("utf-8", errors).replace("\r\n", "\n")
                offset += len(raw)
    except UnicodeDecodeError as error:
        at, byte = offset + error.start, error.object[error.start]
        raise DataError(
            f"{path}: byte {at} of the text (0x{byte:02x}) is not UTF-8. Save the file as UTF-8, or set "
            "errors: replace to put U+FFFD in its place"
        ) from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path))
    return cast(IO[bytes], lzma.open(path)) if path.suffix == ".xz" else path.open("rb")


def kind(path: Path) -> str:
    """The suffix that says what is in a file: .txt for a.txt.xz."""
    return Path(path.stem if path.suffix in (".gz", ".xz") else path.name).suffix.lower()


@dataclass(frozen=True)
class Text:
    """Running text. .md, .rst and .py files are one document each, .jsonl one a line, others by `separator`.

    Attributes:
        separator: what ends a document: "blank_line", "line", or the "file".
        key: where a JSON object has its text.
    """

    separator: Literal["blank_line", "line", "file"] = "blank_line"
    key: str = "text"

    def __post_init__(self):
        if self.separator not in ("blank_line", "line", "file"):
            raise DataError(f"separator is blank_line, line or file, not {self.separator}")

    def samples(self, path: Path, errors: Errors) -> Iterator[Sample]:
        texts = lines(path, errors)
        if kind(path) == ".jsonl":
            yield from (Sample(_field(row, self.key, path)) for row in _objects(path, texts))
        elif kind(path) in WHOLE or self.separator == "file":
            yield Sample("".join(texts))
        elif self.separator == "line":
            yield from (Sample(line.strip()) for line in texts)
        else:
            document: list[str] = []
            for line in texts:
                if line.strip():
                    document.append(line)
                elif document:
                    yield Sample("".join(document).removesuffix("\n"))
                    document = []
            yield Sample("".join(document).removesuffix("\n"))


@dataclass(frozen=True)
class Table:
    """CSV, or TSV (no quoting) with delimiter "\\t", or .jsonl: one sample a row.

    Attributes:
        text: column of the text, or several to put together with `join`. A number counts from 0; names
            are looked up in the first row, or in a JSON object.
        label: column of the label.
        key: column that tells whether a row of train also is in another split, and so is left out.
    """

    text: int | str | Sequence[int | str]
    label: int | str | None = None
    key: int | str | None = None
    delimiter: str = ","
    join: str = ". "

    def samples(self, path: Path, errors: Errors) -> Iterator[Sample]:
        columns = [self.text] if isinstance(self.text, int | str) else list(self.text)
        for row in table(path, errors, self.delimiter, header=isinstance(columns[0], str)):
            fields = [_field(row, column, path) for column in columns]
            label = None if self.label is None else _field(row, self.label, path)
            key = None if self.key is None else _field(row, self.key, path)
            yield Sample(self.join.join(fields), label, key)


@dataclass(frozen=True)
class Prefixed:
    """One sample a line, its label before the text: `NUM:dist How far is it ...` (TREC).

    Attributes:
        until: what ends the label: ":" gives the coarse labels (NUM), " " the fine ones (NUM:dist).
    """

    until: str = ":"

    def samples(self, path: Path, errors: Errors) -> Iterator[Sample]:
        for number, line in enumerate(lines(path, errors), 1):
            word, _, text = line.strip().partition(" ")
            if self.until not in f"{word} ":
                raise DataError(
                    f"{path}, line {number} does not start with a label that ends in {self.until!r}"
                )
            yield Sample(text, f"{word} ".partition(self.until)[0])


class Row(NamedTuple):
    number: int
    fields: Sequence[str] | Mapping[str, object]
    names: Sequence[str] = ()


def table(path: Path, errors: Errors = "strict", delimiter: str = ",", header: bool = False) -> Iterator[Row]:
    """Rows of a CSV, TSV or .jsonl file; `header` says whether the first row names the columns."""
    if kind(path) == ".jsonl":
        yield from _objects(path, lines(path, errors))
        return
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(lines(path, errors), delimiter=delimiter, quoting=quoting, strict=True)
    try:
        names = next(reader, []) if header else []
        for fields in reader:
            yield Row(reader.line_num, fields, names)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is not a row of a table: {error}") from error


def _objects(path: Path, texts: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(texts, 1):
        if line.strip():
            try:
                fields = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number} is not JSON: {error}") from error
            yield Row(number, fields if isinstance(fields, dict) else {})


def _field(row: Row, column: int | str, path: Path) -> str:
    fields = row.fields
    if isinstance(fields, Mapping):
        if column not in fields:
            raise DataError(f"{path}, line {row.number} is not a JSON object with {column!r} in it")
        return str(fields[str(column)])
    if isinstance(column, str):
        if column not in row.names:
            raise DataError(f"{path} has no column {column!r}; its first row names {list(row.names)}")
        column = row.names.index(column)
    if column >= len(fields):
        raise DataError(f"{path}, line {row.number} has {len(fields)} columns, and column {column} is wanted")
    return fields[column]
