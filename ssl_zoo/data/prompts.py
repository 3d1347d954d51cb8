"""Prompts, and prompts with their completions, from files: one a line, columns of a table, or conversations.

Of a conversation the last answer is the completion, and what leads to it the prompt (see `text_chats`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_chats import Turn, answers, is_chat, parted, turns, written
from ssl_zoo.data.text_files import kind, lines
from ssl_zoo.data.text_tables import JSON, named, table, text_of
from ssl_zoo.messages import note

# Names of columns, the likelier first, as public data sets have them.
PROMPT = ("prompt", "input", "question", "source", "instruction", "query", "text")
COMPLETION = ("completion", "output", "answer", "target", "response", "reply", "summary", "translation")
INSTRUCTED = ("instruction", "input")  # of Alpaca and its like: the second is often empty
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_prompts(path: Path, column: str | None = None) -> list[str]:
    """The prompts of a file: each line of a text that is not blank, or a column of a CSV, TSV or JSON file.

    column: None takes the first of `PROMPT` that is there, or the conversations.

    Raises:
        DataError: with the file and what would work: no such column, a cell that is no text, or no prompt.
    """
    if kind(path) in (*DELIMITERS, *JSON):
        if chats := _chats(path, column, [PROMPT]):
            note(f"{path}: of each conversation in {chats!r} all but an answer at its end is the prompt")
            found = [written(one[:-1] if answers(one[-1]) else one) for one in _turns(path, chats) if one]
        else:
            found = [cells[0] for cells in _columns(path, [(column, PROMPT)])]
    else:
        found = [line.rstrip("\r\n") for line in lines(path)]
    found = [text for text in found if text.strip()]
    if not found:
        raise DataError(f"{path} holds no prompt: write one a line")
    return found


def read_pairs(path: Path, prompt: str | None = None, completion: str | None = None) -> list[tuple[str, str]]:
    """The prompts of a table, each with its completion. Rows in which one of them is blank are left out.

    prompt, completion: names of the columns; None takes the first of `PROMPT` and of `COMPLETION` there, or
        the conversations, whose column `prompt` may name.

    Raises:
        DataError: with the file and what would work: no table, no such column, a cell that is no text, or no
            pair.
    """
    if kind(path) not in (*DELIMITERS, *JSON):
        raise DataError(
            f"{path}: prompts with completions are a .jsonl, .csv or .tsv file with the columns prompt and "
            "completion, or of conversations"
        )
    if chats := _chats(path, prompt, [PROMPT, COMPLETION]) if completion is None else None:
        rows = map(parted, _turns(path, chats))
    else:
        rows = _columns(path, [(prompt, PROMPT), (completion, COMPLETION)])
    found = [(first, second) for first, second in rows if first.strip() and second.strip()]
    if not found:
        raise DataError(f"{path} holds no prompt with a completion")
    if chats:
        first = textwrap.shorten(repr(found[0][0]), 100)
        note(
            f"{path}: of each conversation in {chats!r} the last answer is the completion (first prompt: "
            f"{first})"
        )
    return found


def _chats(path: Path, column: str | None, wanted: Sequence[Sequence[str]]) -> str | None:
    """The column of conversations that is to be read; None where there is none.

    Args:
        column: its name; None takes the first, unless all columns that are wanted are there.
    """
    first = next(iter(table(path, delimiter=DELIMITERS.get(kind(path), ","))), None)
    fields = first.fields if first is not None and isinstance(first.fields, dict) else {}
    if column is None and all(named(fields, some) for some in wanted):
        return None
    held = [name for name, cell in fields.items() if is_chat(cell) and column in (None, name)]
    return held[0] if held else None


def _turns(path: Path, column: str) -> Iterator[list[Turn]]:
    """The turns of each conversation of a column; those that are null or empty are left out."""
    for number, fields, _ in table(path):
        where = f"{path}, line {number}: {column!r}"
        cell = fields.get(column) if isinstance(fields, dict) else None
        if cell and not is_chat(cell):
            raise DataError(f"{where} is no conversation, and rows before hold one")
        if cell:
            yield turns(cell, where)


def _columns(path: Path, wanted: Sequence[tuple[str | None, Sequence[str]]]) -> Iterator[list[str]]:
    """The cells of some columns, row by row. A column is named, or the first there of some names."""
    names: list[list[str]] = []
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
            if several := [some for some in names if len(some) > 1]:
                note(f"{path}: a prompt is {' and '.join(several[0])}, with an empty line between")
        if lacking := [name for some in names for name in some if name not in row]:
            raise DataError(f"{where} has no {lacking[0]!r}, and rows before have one: {', '.join(row)}")
        cells = ([text_of(row[name], f"{where}, {name},") or "" for name in some] for some in names)
        yield ["\n\n".join(filter(str.strip, some)) if len(some) > 1 else some[0] for some in cells]


def _named(path: Path, row: Mapping[str, object], name: str | None, some: Sequence[str]) -> list[str]:
    """The column of this name, or the first of some names in any case; instruction and input together."""
    if name is not None:
        if name not in row:
            raise DataError(f"{path} has no column {name!r}, but {', '.join(row)}")
        return [name]
    spelt = {key.strip().lower(): key for key in row}
    if some[0] not in spelt and all(one in some and one in spelt for one in INSTRUCTED):
        return [spelt[one] for one in INSTRUCTED]
    for one in some:
        if one in spelt:
            return [spelt[one]]
    raise DataError(
        f"{path} has no column called {', '.join(some)}, but {', '.join(row)}: call one of them {some[0]}, "
        "or say which it is"
    )
