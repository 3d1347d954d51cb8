"""Rows of CSV, TSV and JSON files, and what counts as a text and as a label in them.

A text is a string. One that is null is left out and counted; anything else is refused with file and line. A
label is a string, a whole number or a boolean, and has one spelling: 1, 1.0 and "1 " are the class 1. A row
whose label is null, empty or absent has none.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_files import LIMITS, Errors, Limits, kind, lines, refuse_other, too_long
from ssl_zoo.data.text_tally import Tally

JSON = {".json", ".jsonl", ".ndjson"}
TABLE_FILES = {".csv", ".tsv", ".parquet", *JSON}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_WHOLE = re.compile(r"([+-]?\d{1,18})\.0+")
_BLANK = re.compile(r"\s*")


class Row(NamedTuple):
    """number: of the line, from 1. fields: cells, or the value of a JSON line. names: of the columns."""

    number: int
    fields: object
    names: Sequence[str] = ()


def text_of(value: object, where: str, errors: Errors = "strict") -> str | None:
    """A text as found in data; None for null.

    Raises:
        DataError: it is no string, or holds NUL or half a surrogate pair while `errors` is strict.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(
            f"{where} is {_shown(value)} and not a text: texts are strings, or null to be left out"
        )
    if odd := _NO_TEXT.search(value):
        if errors == "strict":
            raise DataError(
                f"{where} holds {odd[0]!a} at character {odd.start()}, which is no text: mend it, or set "
                "data.errors=replace to put U+FFFD in its place"
            )
        return _NO_TEXT.sub("\ufffd", value)
    return value


def label_of(value: object, where: str) -> str | None:
    """The one spelling of a label; None where there is none.

    Raises:
        DataError: a list, an object, or a number that is not whole.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        value = str(value)
    if value is None or isinstance(value, int):
        return None if value is None else str(value)
    if not isinstance(value, str):
        raise DataError(
            f"{where} is {_shown(value)} and not a label: labels are strings, whole numbers or booleans"
        )
    word = (text_of(value, where) or "").strip()
    if whole := _WHOLE.fullmatch(word):
        return str(int(whole[1]))
    return (word.lower() if word.lower() in ("true", "false") else word) or None


def _shown(value: object) -> str:
    name = {dict: "an object", list: "a list", float: "a number", int: "a number", bool: "a boolean"}
    shown = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "of more than 40 digits"
    shown = f"{shown[:40]} ..." if len(shown) > 40 else shown
    return f"{name.get(type(value), type(value).__name__)} ({shown})"


def check_delimiter(delimiter: object) -> None:
    """Raise DataError for what cannot part the cells of a table."""
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"delimiter is one character that parts cells, not {delimiter!r}")


def table(
    path: Path,
    errors: Errors = "strict",
    delimiter: str = ",",
    header: bool = False,
    limits: Limits = LIMITS,
    tally: Tally | None = None,
) -> Iterator[Row]:
    """Rows of a CSV, TSV, JSON or Parquet file, blank lines left out; `header`: the first row names columns.

    Raises:
        DataError: with file and line: no JSON, a row wider or narrower than the first, a quote that does not
            close, or a fault that `lines` finds.
    """
    refuse_other(path, tables=True)
    if kind(path) in JSON:
        yield from objects(path, errors, limits)
        return
    if kind(path) == ".parquet":
        yield from parquet(path)
        return
    tally = Tally() if tally is None else tally
    csv.field_size_limit((1 << 31) - 1)  # one for the whole process, so the rows have a limit of their own
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    begun = size = 0

    def counted() -> Iterator[str]:
        nonlocal size
        for line in lines(path, errors, limits):
            size += len(line)
            if size > limits.max_document_bytes:
                raise too_long(f"{path}: the row that begins in line {begun}", limits)
            yield line

    reader = csv.reader(counted(), delimiter=delimiter, quoting=quoting, strict=True)
    width, names = 0, []
    while True:
        begun, size = reader.line_num + 1, 0
        try:
            fields = next(reader, None)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                error = csv.Error(
                    f"a quote that opens in it does not close before the end of the file ({error})"
                )
            raise DataError(f"{path}, line {begun} is not a row of a table: {error}") from error
        if fields is None:
            return
        if not any(field.strip() for field in fields) and len(fields) < max(width, 2):
            continue
        if width and len(fields) != width:
            raise DataError(
                f"{path}, line {begun} has {len(fields)} columns, and the first row has {width}: "
                + (
                    "a cell that holds the delimiter must be quoted"
                    if len(fields) > width
                    else "cells are missing"
                )
            )
        width = width or len(fields)
        if header and not names:
            names = [field.strip() for field in fields]
        elif header and [field.strip() for field in fields] == names:
            tally.add("header row(s) in the midst of a table left out", f"{path}, line {begun}")
        else:
            yield Row(begun, fields, names)


def parquet(path: Path, columns: Sequence[int | str] | None = None) -> Iterator[Row]:
    """Rows of a Parquet file as objects, a thousand in memory at a time; numbers count from 1.

    columns: those that are read, by name; None = all.

    Raises:
        DataError: pyarrow is not there, or the file cannot be read.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path} needs pyarrow: pip install 'ssl-zoo[parquet]'") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            wanted = None if columns is None else [str(one) for one in columns]
            for batch in file.iter_batches(1000, columns=wanted):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(number, fields)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def objects(path: Path, errors: Errors = "strict", limits: Limits = LIMITS) -> Iterator[Row]:
    """Values of a file with JSON on each line, or of a .json file that is one array.

    Raises:
        DataError: with file and line: no JSON, an object with a key twice, or a fault that `lines` finds.
    """
    texts = lines(path, errors, limits)
    for number, line in enumerate(texts, 1):
        if kind(path) == ".json" and line.lstrip().startswith("["):
            yield from _array(path, number, line, texts, limits)
        elif line.strip():
            yield Row(number, _parsed(line, f"{path}, line {number}"))


def _array(path: Path, number: int, first: str, others: Iterable[str], limits: Limits) -> Iterator[Row]:
    pieces, size = [first], len(first)
    for line in others:
        pieces.append(line)
        size += len(line)
        if size > limits.max_document_bytes:
            raise too_long(f"{path} is one array of JSON, which is read as a whole. It", limits)
    text, last = "".join(pieces), 0
    at = _skip(text, first.index("[") + 1)
    if text[at : at + 1] == "]" and not text[_skip(text, at + 1) :]:
        return
    while True:
        number, last = number + text.count("\n", last, at), at
        value, at = _parsed(text, f"{path}, line {number}", at)
        yield Row(number, value)
        at = _skip(text, at)
        if text[at : at + 1] == "]" and not text[_skip(text, at + 1) :]:
            return
        if text[at : at + 1] != ",":
            raise DataError(
                f"{path}, line {number} is not JSON: after an item of the array comes no , and no ]"
            )
        at = _skip(text, at + 1)


def looks_like(head: Sequence[str]) -> str | None:
    """What a file seems to be whose first two lines are `head`; None where it seems to be running text."""
    if len(head) == 2 and all(re.match(r'\s*\{\s*"', line) and line.rstrip().endswith("}") for line in head):
        return "JSON lines: .jsonl is their suffix"
    if len(head) == 2 and head[0].startswith(">") and _SEQUENCE.fullmatch(head[1].rstrip()):
        return "FASTA: .fasta is its suffix"
    for sign in ",;\t|":
        names = head[0].rstrip().split(sign) if len(head) == 2 else []
        if len(names) > 1 and all(map(_NAME.fullmatch, names)) and head[1].count(sign) >= len(names) - 1:
            return f"a table with the columns {', '.join(names)}: format Table reads these"[:120]
    return None


_SEQUENCE = re.compile(r"[A-Za-z*-]{10,}")
_NAME = re.compile(r'"?\w+"?')  # of a column; prose has a space after a comma


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(next(key for key in keys if keys.count(key) > 1))
    return found


class _Twice(Exception):
    """A key that an object has twice."""


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _parsed(text: str, where: str, at: int | None = None):
    """The JSON value that `text` is, or (value, end) of the one that begins at `at`."""
    try:
        return _DECODER.decode(text) if at is None else _DECODER.raw_decode(text, at)
    except _Twice as error:  # which of its values is meant, nobody knows
        raise DataError(f"{where}: an object has the key {error.args[0][:40]!r} twice") from error
    except RecursionError as error:
        raise DataError(f"{where} is not JSON of a text: it is nested too deeply") from error
    except json.JSONDecodeError as error:
        hint = (
            ": a .json file holds an array, or one object a line" if text.lstrip().startswith("{\n") else ""
        )
        raise DataError(f"{where} is not JSON: {error}{hint}") from error
    except ValueError as error:  # int() refuses to read thousands of digits
        raise DataError(f"{where} is not JSON of a text: it holds a number of thousands of digits") from error


def field(row: Row, column: int | str, path: Path) -> object:
    """The value of a row in a column, which is named or numbered from 0.

    Raises:
        DataError: there is no such column, or two of that name.
    """
    fields = row.fields
    if not isinstance(fields, list) or (isinstance(column, str) and not row.names):
        if not isinstance(fields, Mapping) or column not in fields:
            if kind(path) == ".parquet":
                raise DataError(f"{path}, row {row.number} has no column {column!r}")
            raise DataError(f"{path}, line {row.number} is not a JSON object with {column!r} in it")
        return fields[column]
    if isinstance(column, str):
        if row.names.count(column) != 1:
            raise DataError(
                f"{path} has {'two columns' if column in row.names else 'no column'} {column!r}; its first "
                f"row names {list(row.names)}{_other_delimiter(row.names)}"
            )
        column = row.names.index(column)
    if not 0 <= column < len(fields):
        raise DataError(
            f"{path}, line {row.number} has {len(fields)} columns, and column {column} is wanted"
            + _other_delimiter(fields)
        )
    return fields[column]


def columns_of(row: Row) -> list[str]:
    """The names of the columns of a row."""
    return list(row.fields) if isinstance(row.fields, Mapping) else list(row.names)


def usual_delimiter(path: Path) -> str:
    """What parts the cells of a table of that name."""
    return "\t" if kind(path) == ".tsv" else ","


def named(names: Iterable[Any], wanted: Iterable[str]) -> Any:
    """The first of the columns that is wanted by name, in the order of what is wanted; None if none is."""
    known = {name.strip().lower(): name for name in reversed(list(names)) if isinstance(name, str)}
    return next((known[one] for one in wanted if one in known), None)


def _other_delimiter(cells: Sequence[object]) -> str:
    """A hint where a row is one cell with signs in it that part cells elsewhere."""
    if len(cells) != 1:
        return ""
    found = next((sign for sign in ";\t|," if sign in str(cells[0])), None)
    return "" if found is None else f". Its cells seem to be parted by {found!r}: set delimiter: {found!r}"
