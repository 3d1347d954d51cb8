"""Images of a table: one whose rows name image files and their labels, or a Parquet file that holds them.

Labels are strings or whole numbers, one spelling each (see `text_tables.label_of`); classes are sorted, whole
numbers by their value. A Parquet file of the Hugging Face library names its classes in its metadata.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_zoo.data.image_folder import Folder, Found
from ssl_zoo.data.image_listing import list_folder
from ssl_zoo.data.image_samples import Sample, Samples, Source
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_files import kind
from ssl_zoo.data.text_tables import (
    TABLE_FILES,
    Row,
    columns_of,
    field,
    label_of,
    named,
    parquet,
    table,
    text_of,
    usual_delimiter,
)

# Names of columns, in the order in which they are looked for.
IMAGES = ("image", "image_path", "filepath", "file_path", "file_name", "filename", "path", "file", "img")
LABELS = ("label", "class", "category", "target", "y", "species", "breed", "diagnosis")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read, by name or by number from 0; None looks for a usual name."""

    image: int | str | None = None
    label: int | str | None = None


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return kind(path) in TABLE_FILES


def table_source(spec: str, path: Path, columns: Columns) -> Source:
    """The source that a table is.

    Raises:
        DataError: no column of images, or none that is asked for; no row has an image.
    """
    about = path.stat()
    identity = ("table", path.name, about.st_size, about.st_mtime_ns, columns.image, columns.label)
    if kind(path) == ".parquet" and holds_pixels(first := next(parquet(path), None)):
        assert first is not None
        chosen = choose(first, columns, path)
        return Source(spec, identity, lambda _: within(spec, path, chosen))
    found = named_files(spec, path, columns)
    names = [file.name for file in found.files]
    root, sizes = path.parent, [file.size for file in found.files]

    def stream() -> Iterator[Sample]:
        for name, label in zip(names, found.labels, strict=True):
            yield Sample(str(root / name), root / name, label)

    return Source(
        spec,
        (*identity, *map(tuple, found.files)),
        lambda _: Samples(stream(), found.classes, len(names)),
        lambda: list_folder(spec, root, names, sizes, found.labels, found.classes),
        len(names),
        found.left,
    )


def choose(row: Row, columns: Columns, path: Path) -> tuple[int | str, int | str | None]:
    """The columns of images and labels.

    Raises:
        DataError: there is no column of images by a usual name.
    """
    names = columns_of(row)
    image = named(names, IMAGES) if columns.image is None else columns.image
    if image is None:
        raise DataError(
            f"{path} has no column of images by a usual name; its columns are {', '.join(map(str, names))}: "
            "give data.image=COLUMN"
        )
    rest = [name for name in names if name != image]
    return image, named(rest, LABELS) if columns.label is None else columns.label


def named_files(spec: str, path: Path, columns: Columns) -> Folder:
    """The image files that the rows of a table name, from its own folder; what is not there is left out."""
    header = not all(isinstance(one, int) for one in (columns.image, columns.label))
    chosen: tuple[int | str, int | str | None] | None = None
    files: list[Found] = []
    labels: list[str | None] = []
    left: Counter[str] = Counter()
    for row in table(path, "strict", usual_delimiter(path), header):
        chosen = chosen or choose(row, columns, path)
        image, label = chosen
        where = f"{path}, line {row.number}"
        name = text_of(field(row, image, path), f"{where}, {image!r}")
        about = None if not name else stamp(path.parent / name)
        if not name or about is None:
            left[f"rows without an image in {path.parent}"] += 1
            continue
        files.append(Found(name, *about))
        labels.append(None if label is None else label_of(field(row, label, path), f"{where}, {label!r}"))
    if not files:
        raise DataError(f"{spec}: no row names an image file that is in {path.parent}")
    return Folder(files, *numbered(labels), left)


def stamp(file: Path) -> tuple[int, int] | None:
    """Size and time of a regular file; None where there is none."""
    try:
        about = os.stat(file)
    except (OSError, ValueError):
        return None
    return (about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else None


def numbered(labels: list[str | None]) -> tuple[list[int], tuple[str, ...]]:
    """The number of each label, -1 for none, and the names of the classes."""
    known = {label for label in labels if label is not None}
    whole = all(label.lstrip("+-").isdecimal() for label in known)
    names = sorted(known, key=int) if whole else sorted(known)
    numbers = {name: i for i, name in enumerate(names)}
    return [-1 if label is None else numbers[label] for label in labels], tuple(names)


def holds_pixels(row: Row | None) -> bool:
    """Whether a row holds an encoded image, as bytes or as the Hugging Face library keeps it."""
    values = row.fields.values() if row is not None and isinstance(row.fields, Mapping) else ()
    return any(pixels(value) is not None for value in values)


def pixels(value: Any) -> bytes | None:
    """The encoded image in a cell; None where it holds none."""
    found = value.get("bytes") if isinstance(value, Mapping) else value
    return found if isinstance(found, bytes) else None


def within(spec: str, path: Path, chosen: tuple[int | str, int | str | None]) -> Samples:
    """The images that a Parquet file holds. It is read twice: for the labels, and for the images."""
    image, label = chosen
    words: list[str | None] = [None] * sum(1 for _ in parquet(path, [image]))
    if label is not None:
        words = [
            label_of(field(row, label, path), f"{path}, row {row.number}, {label!r}")
            for row in parquet(path, [label])
        ]
    numbers, classes = numbered(words)
    given = class_names(path, label)
    if given and all(name.isdecimal() and int(name) < len(given) for name in classes):
        numbers = [-1 if word is None else int(word) for word in words]
        classes = given

    def stream() -> Iterator[Sample]:
        for row, number in zip(parquet(path, [image]), numbers, strict=True):
            content = pixels(field(row, image, path))
            yield Sample(f"{spec}, row {row.number}", content or b"", number)

    return Samples(stream(), classes, len(numbers))


def class_names(path: Path, label: int | str | None) -> tuple[str, ...]:
    """The names of classes in the metadata of the Hugging Face library; () for none."""
    import pyarrow.parquet

    about = (pyarrow.parquet.read_schema(path).metadata or {}).get(b"huggingface")
    try:
        found = json.loads(about or b"{}")["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()
