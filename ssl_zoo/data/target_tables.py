"""Tables whose label column is not one class a row: several labels, or a number; of texts or of images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.data.image_tables import pixels
from ssl_zoo.data.items import Item
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_tables import field, label_of, table, text_of
from ssl_zoo.messages import note


class Columns(NamedTuple):
    """Which columns of a table are read, and how.

    input: of the text or of the image. label: of the label, or several of 0 and 1; None: no labels.
    modality: what the input is. delimiter: parts the cells. separator: parts the labels within a cell; None:
    they are a list. Columns are named, or numbered from 0 where the first row names none.
    """

    input: int | str
    label: int | str | tuple[int | str, ...] | None
    modality: str
    delimiter: str = ","
    separator: str | None = None


def read_table(path: Path, columns: Columns, task: str, unlabelled: bool = False) -> list[Item]:
    """The rows of a table, whose targets are tuples of labels (task="labels") or numbers ("regression").

    A row without a text or an image is left out, and so is one without a target, unless those are wanted as
    `unlabelled`; both are said. The target of every row is None where the columns name no label.

    Raises:
        DataError: with file and row: a cell that is not what it should be; or there is no such column.
    """
    wanted = columns.label if isinstance(columns.label, tuple) else (columns.label,)
    header = any(isinstance(one, str) for one in (columns.input, *wanted))
    left: Counter[str] = Counter()
    found: list[Item] = []
    for number, row in enumerate(table(path, delimiter=columns.delimiter, header=header)):
        where = f"{path}, row {number}"
        content = field(row, columns.input, path)
        if columns.modality == "text":
            content = text_of(content, where)
            content = content if content and content.strip() else None
        else:
            content = image_of(content, path, where)
        target = None
        if columns.label is not None:
            if task == "labels":
                target = labels_of(row, path, columns, where)
            else:
                assert isinstance(columns.label, (int, str))
                target = number_of(field(row, columns.label, path), where)
            if target is None and content is not None and not unlabelled:
                left["without a label"] += 1
                continue
        if content is None:
            left[f"without {'a text' if columns.modality == 'text' else 'an image'}"] += 1
            continue
        found.append(Item(str(path), number, content, target))
    for what, count in left.items():
        note(f"{path}: {count:,} rows {what} are left out")
    if not found:
        raise DataError(f"{path} holds no row with {columns.input!r} and a label")
    return found


def image_of(value: object, path: Path, where: str) -> bytes | Path | None:
    """The image that a cell holds or names, from the folder of the table; None for an empty cell.

    Raises:
        DataError: it is no image, or the file is not there.
    """
    if (held := pixels(value)) is not None:
        return held
    if value is None or value == "":
        return None
    file = path.parent / str(value)
    if not isinstance(value, str) or not file.is_file():
        raise DataError(f"{where}: {str(value)[:80]!r} is no image file that lies in {path.parent}")
    return file


def labels_of(row: Any, path: Path, columns: Columns, where: str) -> tuple[str, ...] | None:
    """The labels of a row in the order of the cell, each once; None where the cell is null.

    Raises:
        DataError: a cell that is neither, or, of several columns, another value than 0 and 1.
    """
    if isinstance(columns.label, tuple):
        cells = {str(one): field(row, one, path) for one in columns.label}
        marks = {name: label_of(cell, f"{where}: {name!r}") for name, cell in cells.items()}
        if all(mark is None for mark in marks.values()):
            return None
        if odd := [name for name, mark in marks.items() if mark not in YES | NO]:
            raise DataError(
                f"{where}: {odd[0]!r} is {cells[odd[0]]!r}; where each label has a column, that is 0 or 1"
            )
        return tuple(name for name, mark in marks.items() if mark in YES)
    assert columns.label is not None
    cell = field(row, columns.label, path)
    if cell is None:
        return None
    if isinstance(cell, (list, tuple)):
        parts: Sequence[Any] = cell
    elif isinstance(cell, str):
        parts = cell.split(columns.separator) if columns.separator else [cell]
    else:
        parts = [cell]
    names = (label_of(part, where) for part in parts)
    return tuple(dict.fromkeys(name for name in names if name is not None))


YES, NO = {"1", "true"}, {"0", "false"}


def number_of(value: object, where: str) -> float | None:
    """The number of a cell; None where it is empty.

    Raises:
        DataError: it is no number, or none that is finite.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{where}: {str(value)[:40]!r} is no finite number; leave the cell empty where nobody knows it"
        )
    return number
