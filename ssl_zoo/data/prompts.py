"""Prompts, and prompts with their completions, from files: one a line, or columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_files import kind, lines
from ssl_zoo.data.text_tables import JSON, table, text_of

# Names of columns, the likelier first, as public data sets have them.
PROMPT = ("prompt", "input", "question", "source", "instruction", "query", "text")
COMPLETION = ("completion", "output", "answer", "target", "response", "reply", "summary", "translation")
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_prompts(path: Path, column: str | None = None) -> list[str]:
    """The prompts of a file: each line of a text that is not blank, or a column of a CSV, TSV or JSON file.

    column: None takes the first of `PROMPT` that is there.

    Raises:
        DataError: with the file and what would work: no such column, a cell that is no text, or no prompt.
    """
    if kind(path) in (*DELIMITERS, *JSON):
        found = [cells[0] for cells in _columns(path, [(column, PROMPT)])]
    else:
        found = [line.rstrip("\r\n") for line in lines(path)]
    found = [text for text in found if text.strip()]
    if not found:
        raise DataError(f"{path} holds no prompt: write one a line")
    return found


def read_pairs(path: Path, prompt: str | None = None, completion: str | None = None) -> list[tuple[str, str]]:
    """The prompts of a table, each with its completion. Rows in which one of them is blank are left out.

    prompt, completion: names of the columns; None takes the first of `PROMPT` and of `COMPLETION` there.

    Raises:
        DataError: with the file and what would work: no table, no such column, a cell that is no text, or no
            pair.
    """
    if kind(path) not in (*DELIMITERS, *JSON):
        raise DataError(
            f"{path}: prompts with completions are a .jsonl, .csv or .tsv file with the columns prompt and "
            "completion"
        )
    found = [
        (first, second)
        for first, second in _columns(path, [(prompt, PROMPT), (completion, COMPLETION)])
        if first.strip() and second.strip()
    ]
    if not found:
        raise DataError(f"{path} holds no prompt with a completion")
    return found


def _columns(path: Path, wanted: Sequence[tuple[str | None, Sequence[str]]]) -> Iterator[list[str]]:
    """The cells of some columns, row by row. A column is named, or the first there of some names."""
    names: list[str] = []
    for number, fields, header in table(path, delimiter=DELIMITERS.get(kind(path), ","), header=True):
        where = f"{path}, line {number}"
        if isinstance(fields, str) and len(wanted) == 1:  # JSON lines that are texts alone
            yield [fields]
            continue
        if isinstance(fields, list) and header:
            row: Mapping[str, object] = dict(zip(header, fields, strict=True))
        elif isinstance(fields, dict):
            row = fields
        else:
            raise DataError(f'{where} is no object with keys, such as {{"{wanted[0][1][0]}": ...}}')
        if not names:
            names = [_named(path, row, one, some) for one, some in wanted]
        if lacking := [name for name in names if name not in row]:
            raise DataError(f"{where} has no {lacking[0]!r}, and rows before have one: {', '.join(row)}")
        yield [text_of(row[name], f"{where}, {name},") or "" for name in names]


def _named(path: Path, row: Mapping[str, object], name: str | None, some: Sequence[str]) -> str:
    """The column of this name, or the first of some names in any case."""
    if name is not None:
        if name not in row:
            raise DataError(f"{path} has no column {name!r}, but {', '.join(row)}")
        return name
    spelt = {key.strip().lower(): key for key in row}
    for one in some:
        if one in spelt:
            return spelt[one]
    raise DataError(
        f"{path} has no column called {', '.join(some)}, but {', '.join(row)}: call one of them {some[0]}, "
        "or say which it is"
    )
