"""A file of names that says which samples are train, validation and test, in the place of a random draw.

It is a table with a column of splits and one of names, or, for the rows of a table of texts, a column of
splits alone, line for line; or a mapping from splits to files that hold a name a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from ssl_zoo.data.image_tables import IMAGES
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.split_names import PARTS, split_of
from ssl_zoo.data.text_files import kind, lines
from ssl_zoo.data.text_tables import (
    TABLE_FILES,
    Row,
    columns_of,
    field,
    named,
    table,
    text_of,
    usual_delimiter,
)
from ssl_zoo.messages import note

NAMES = (*IMAGES, "name", "document", "id")  # of columns of names, in the order in which they are looked for
COLUMNS = ("split", "subset", "set", "partition", "fold")

Given = str | Path | Mapping[str, str | Path]


class Assigned(NamedTuple):
    """where: the file or files, for messages. names: of samples -> their split. rows: the split of each row
    of a table, None for a row without one; None where samples are named."""

    where: str
    names: dict[str, str]
    rows: list[str | None] | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The splits that have samples, and train, which has what is left where nothing is said to be it."""
        used = {"train", *self.names.values(), *filter(None, self.rows or ())}
        return tuple(part for part in PARTS if part in used)


def refuse_both(name: str, splits: Given | None, validation: object, test: object) -> None:
    """Raise DataError where a file of splits is given and other samples for one of them as well."""
    if splits and (validation or test):
        raise DataError(
            f"{name}: splits says which samples of train are of which split: leave validation and "
            "test out, or splits"
        )


def read_assigned(given: Given, train: object) -> Assigned:
    """What a file of splits says.

    Args:
        given: a table (.csv, .tsv, .jsonl, .parquet), or split -> text file with a name a line.
        train: the source of all samples; a table that is itself given has the splits of its own rows.

    Raises:
        DataError: no such file, no column of splits, a split of another name, or a name with two splits.
    """
    if isinstance(given, Mapping):
        pairs = [(name, split, str(file)) for split, file in given.items() for name in listed(Path(file))]
        return Assigned(", ".join(map(str, given.values())), once((n, known(s, f), f) for n, s, f in pairs))
    path = Path(given).expanduser()
    if kind(path) not in TABLE_FILES:
        raise DataError(
            f"splits={given} is neither a table with the columns file and split "
            f"({', '.join(sorted(TABLE_FILES))}) nor " + "{validation: FILE, test: FILE} with a name a line"
        )
    rows = list(table(path, delimiter=usual_delimiter(path), header=True))
    columns = columns_of(rows[0]) if rows else []
    split = named(columns, COLUMNS)
    if split is None:
        raise DataError(
            f"splits={given} has no column of splits by a usual name ({', '.join(COLUMNS)}); its columns are "
            + ", ".join(map(str, columns))
        )
    name = named([one for one in columns if one != split], NAMES)
    said = [cell(row, split, path) for row in rows]
    splits = [None if one is None else known(one, str(path)) for one in said]
    if name is None or is_same(path, train):
        return Assigned(str(path), {}, splits)
    names = [cell(row, name, path) for row in rows]
    pairs = zip(names, splits, strict=True)
    return Assigned(str(path), once((n, s, str(path)) for n, s in pairs if n is not None and s is not None))


def cell(row: Row, column: str, path: Path) -> str | None:
    """The words in a cell; None where it is empty."""
    value = field(row, column, path)
    value = str(value) if isinstance(value, int) else value
    return (text_of(value, f"{path}, line {row.number}: {column!r}") or "").strip() or None


def listed(path: Path) -> list[str]:
    """The names in a text file, one a line."""
    return [line.strip() for line in lines(path.expanduser()) if line.strip()]


def known(word: str, where: str) -> str:
    """The split that a word means. Raises DataError for any other word."""
    found = split_of(word)
    if found is None:
        raise DataError(f"{where}: {word!r} is no split: they are called train, validation (val) and test")
    return found


def once(pairs: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """name -> split, of triples with the file that says so. Raises DataError for a name with two splits."""
    found: dict[str, str] = {}
    for written, split, where in pairs:
        name = PurePath(written).as_posix()
        if found.setdefault(name, split) != split:
            raise DataError(f"{where}: {name} is in {split}, and in {found[name]} before")
    return found


def is_same(path: Path, source: object) -> bool:
    """Whether a source is that one file."""
    if not isinstance(source, str | Path):
        return False
    other = Path(source).expanduser()
    return other.exists() and path.exists() and path.samefile(other)


def dealt(assigned: Assigned, names: Sequence[str], rows: Sequence[int | None] = ()) -> dict[str, np.ndarray]:
    """Which samples each split has: sorted indices, int64. Where no sample is said to be train, train has all
    that are not named; else these are left out, which is said.

    Args:
        names: of the samples; the end of a path names it as well, where it is the only one that ends so.
        rows: of the samples in their file, from 0; None for a file that is one sample, () if all are.

    Raises:
        DataError: a name fits several samples, no name fits any, or train has none.
    """
    if assigned.rows is not None:
        if len(set(names)) > 1 or not rows or None in rows:
            raise DataError(
                f"splits={assigned.where} has no column of names (such as file), so it is for the rows of a "
                "table, and these are not the rows of one"
            )
        said = dict(enumerate(assigned.rows))
        found = [said.get(row) for row in rows if row is not None]
    else:
        found = by_name(assigned, names)
    parts = {part: np.array([i for i, one in enumerate(found) if one == part], np.int64) for part in PARTS}
    rest = np.array([i for i, one in enumerate(found) if one is None], np.int64)
    if not len(parts["train"]):
        parts["train"] = rest
    elif len(rest):
        note(f"{assigned.where} gives {len(rest):,} of {len(found):,} samples no split: they are left out")
    if empty := [part for part in assigned.parts if not len(parts[part])]:
        raise DataError(f"{assigned.where} leaves no samples to {' and '.join(empty)}")
    return parts


def by_name(assigned: Assigned, names: Sequence[str]) -> list[str | None]:
    """The split of each sample, None for one that is not named; names that fit nothing are counted."""
    of: dict[str, str] = {}  # the name that was used -> the sample that it fits
    found: list[str | None] = []
    for name in names:
        parts = PurePath(name).as_posix().split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        used = next((end for end in ends if end in assigned.names), None)
        if used is not None and of.setdefault(used, name) != name:
            raise DataError(f"{assigned.where}: {used} may be {of[used]} or {name}: write more of its path")
        found.append(None if used is None else assigned.names[used])
    if lost := [name for name in assigned.names if name not in of]:
        if not of:
            raise DataError(
                f"{assigned.where} names {lost[0]} and others, and none of them is among the samples, "
                f"such as {names[0]}"
            )
        note(f"{assigned.where}: {len(lost):,} of its {len(assigned.names):,} names fit nothing ({lost[0]})")
    return found
