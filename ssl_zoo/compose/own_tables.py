"""Tables of one's own: which of their columns hold texts, labels, images and captions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_files import kind_of

TEXT = (
    "text",
    "review",
    "sentence",
    "content",
    "body",
    "document",
    "message",
    "comment",
    "title",
    "description",
)
LABEL = ("label", "class", "category", "opinion", "sentiment", "target", "topic", "y", "rating", "stars")
TEXT_KEY, LABEL_KEY = "data.format.text", "data.format.label"
Errors = Literal["strict", "replace"]  # of ssl_zoo.data.text_files, which brings torch
SAMPLE = 200  # rows of a table that any guess reads
MANY = 20_000  # rows that it reads of texts and numbers: tables are often sorted by class
Labels = Literal["none", "if all have one", "any"]


def columns(
    file: Path, labels: Labels = "any", typed: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[str], str]:
    """The words that say which columns of a table are read, and a line that says which.

    Args:
        labels: whether a column of labels is looked for. Rows that have none are then left out; with "if all
            have one" a column in which some have none is not read.
        typed: key -> value of words that say it already.
    """
    from ssl_zoo.data.text_chats import is_chat
    from ssl_zoo.data.text_tables import named  # brings torch

    delimiter, names, rows = parted(file, errors_of(typed))
    texts = {name: [str(row.get(name, "")) for row in rows] for name in names}
    lengths = {name: sum(map(len, values)) / max(1, len(values)) for name, values in texts.items()}
    wanted = overrides.unquoted(typed.get(TEXT_KEY, "null"))
    chats = [name for name in names if rows and is_chat(rows[0].get(name))]
    guess = text_column(names, chats, lengths)
    text = next((name for name in names if str(name) == wanted), guess)
    rest = [name for name in names if name != text]
    few = [n for n in rest if 2 <= len(set(texts[n])) <= max(2, min(100, len(rows) // 5)) and lengths[n] < 40]
    label = named(rest, LABEL) or (min(few, key=lambda name: len(set(texts[name]))) if few else None)
    label, lack = (None if labels == "none" else label), 0
    if label is not None and labels == "if all have one" and LABEL_KEY not in typed:
        lack = sum(row.get(label) is None or not str(row[label]).strip() for row in rows)
    said = "a table" + (f" parted by {delimiter!r}" if delimiter not in ",\t" else "")
    said += f"; text is column {text!r}" if wanted in ("null", str(text)) else f"; text is column {wanted!r}"
    if lack:
        said += f", label {label!r} is not read, as {lack:,} of {len(rows):,} rows have none"
        said += f" ({overrides.shell(f'{LABEL_KEY}={label}')} reads the others alone)"
        label = None
    else:
        shown = overrides.unquoted(typed.get(LABEL_KEY, "null" if label is None else str(label)))
        said += ", no labels" if shown == "null" else f", label is {shown!r}"
    made = [
        "data.format._target_=ssl_zoo.data.text_formats.Table",
        "~data.format.separator",
        "data.format.key=null",
        f"+data.format.text={column(text)}",
    ]
    made += [] if label is None else [f"+data.format.label={column(label)}"]
    made += [f"+data.format.delimiter='{delimiter}'"] if delimiter != "," else []
    keys = f"{TEXT_KEY}=, {LABEL_KEY}=" if labels != "none" else f"{TEXT_KEY}="
    return made, f"{said}, of {', '.join(map(repr, names))} ({keys})"


def text_column(names: Sequence[Any], chats: Sequence[Any], lengths: Mapping[Any, float]) -> Any:
    """The column that is most likely the text: by its name, or by what it holds.

    Args:
        names: of the columns that may be.
        chats: those of them that hold conversations.
        lengths: how long what is in each of them is.
    """
    from ssl_zoo.data.text_tables import named  # brings torch

    by_name = named(names, TEXT[:1]) or next(iter(chats), None) or named(names, TEXT)
    return by_name or max(names, key=lambda name: lengths[name])


def image_columns(
    file: Path, typed: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, list[str], str, bool] | None:
    """The group, the words and the line for a table of images, and whether it holds them itself; None for any
    other table.

    Its rows name image files, or, in a Parquet file, hold them; beside them is a class, or a caption.
    """
    from ssl_zoo.data.image_captions import CAPTIONS
    from ssl_zoo.data.image_tables import IMAGES, LABELS, pixels
    from ssl_zoo.data.text_tables import named

    delimiter, names, rows = parted(file, errors_of(typed))
    held = next((name for name in names if rows and pixels(rows[0].get(name)) is not None), None)
    image = named(names, IMAGES) if held is None else held
    paths = [Path(str(row.get(image, ""))) for row in rows]
    if image is None or (held is None and 2 * sum(kind_of(path) == "images" for path in paths) < len(paths)):
        return None
    rest = [name for name in names if name != image]
    label, caption = named(rest, LABELS), named(rest, CAPTIONS)
    several = label is not None and len({str(row.get(label)) for row in rows}) <= max(2, len(rows) // 2)
    columns = ", ".join(map(repr, names))
    where = "that hold" if held is not None else "that name"
    if several or caption is None:
        label = label if several else None
        made = [f"data.image={column(image)}"] + ([] if label is None else [f"data.label={column(label)}"])
        classes = "no labels" if label is None else f"label {label!r}"
        said = f"rows {where} images; image is column {image!r}, {classes}, of {columns}"
        return "image_folder", made, f"{said} (data.image=, data.label=)", held is not None
    if held is not None:
        return None
    made = [f"data.image={column(image)}", f"data.caption={column(caption)}"]
    made += [f"data.delimiter='{delimiter}'"] if delimiter not in ",\t" else []
    said = f"a table of images and captions; image is column {image!r}, caption {caption!r}"
    return "image_captions", made, f"{said}, of {columns} (data.image=, data.caption=)", False


def errors_of(typed: Mapping[str, str]) -> Errors:
    """What is done with bytes that are no UTF-8."""
    return "replace" if typed.get("data.errors") == "replace" else "strict"


def parted(file: Path, errors: Errors = "strict") -> tuple[str, list[Any], list[dict[Any, Any]]]:
    """The sign that parts the cells of a table, its names and first rows: in a CSV not always a comma.

    Raises:
        ConfigError: see `sample`.
    """
    usual = "\t" if ".tsv" in file.name.lower() else ","
    names, rows, wrong = [], [], None
    try:
        names, rows = sample(file, usual, errors)
    except ConfigError as error:
        wrong = error
    for sign in ";\t|" if len(names) < 2 and ".csv" in file.name.lower() else ():
        with contextlib.suppress(ConfigError):  # rows of several widths, above all
            other, found = sample(file, sign, errors)
            if len(other) > 1 and found:
                return sign, other, found
    if wrong is not None:
        raise wrong
    return usual, names, rows


def column(name: int | str) -> str:
    """The name or number of a column as Hydra reads it."""
    return str(name) if isinstance(name, int) else overrides.quote(name)


def light(row: Any) -> bool:
    """Whether a row holds texts and numbers alone, and no images."""
    cells = row.values() if isinstance(row, dict) else row
    return not any(isinstance(cell, (bytes, dict)) for cell in cells)


def sample(file: Path, delimiter: str, errors: Errors) -> tuple[list[Any], list[dict[Any, Any]]]:
    """Names (or numbers, without a first row of names) of the columns, and the first rows.

    Raises:
        ConfigError: it is not a table.
    """
    from ssl_zoo.data.rows import DataError  # brings torch
    from ssl_zoo.data.text_tables import table

    try:
        rows = table(file, errors, delimiter)
        cells = [row.fields for row in islice(rows, SAMPLE + 1)]
        if all(map(light, cells[:1])):
            cells += [row.fields for row in islice(rows, MANY - SAMPLE)]
    except DataError as error:
        raise ConfigError(f"data={file} cannot be read as a table: {error}") from error
    if not cells:
        raise ConfigError(f"data={file} is empty")
    if any(ending in file.name.lower() for ending in (".json", ".ndjson", ".parquet")):
        if not all(isinstance(row, dict) for row in cells):
            raise ConfigError(f'data={file}: its rows are no JSON objects, such as {{"text": ...}}')
        return list(cells[0]), cells  # pyright: ignore
    first, *others = cast(list[list[str]], cells)
    named = len(set(first)) == len(first) and all(
        0 < len(c) <= 40 and not re.fullmatch(r"[-+.\d]+", c) for c in first
    )
    names: list[Any] = list(first) if named else list(range(len(first)))
    return names, [dict(zip(names, row, strict=True)) for row in (others if named else [first, *others])]
