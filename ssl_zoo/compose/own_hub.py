"""data=hf:NAME: a data set of the Hugging Face hub, or a folder in which one was saved, by its name alone."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_files import nearest_side
from ssl_zoo.compose.own_tables import LABEL, SAMPLE, text_column

HUB = "hf:"
FEW = 50  # images whose sizes are looked at


def name_of(value: str) -> str | None:
    """The name in data=hf:NAME, or a folder in which a data set was saved; None for any other data."""
    from ssl_zoo.data.hub_folders import saved

    path = Path(value.removeprefix(HUB)).expanduser()
    if value.startswith(HUB):
        return str(path.resolve()) if path.is_dir() else value.removeprefix(HUB)
    return str(path.resolve()) if saved(path) else None


class Described(NamedTuple):
    """How a set is read: the group, what is said, split -> source, and the side of its images if small."""

    group: str
    said: str
    sources: dict[str, str]
    side: int | None


def described(name: str, whole: bool) -> Described:
    """How a set of that name is read.

    Args:
        name: NAME, or NAME@CONFIG.
        whole: whether labels and splits do not count: the split for training alone is read.

    Raises:
        ConfigError: it cannot be loaded, has no split to train on, or neither images nor texts.
    """
    from ssl_zoo.data import hub
    from ssl_zoo.data.rows import DataError
    from ssl_zoo.data.split_names import WORDS

    try:
        datasets, tables = hub.library(), hub.splits(name)
    except DataError as error:
        raise ConfigError(f"data={error}") from error
    parts = {
        split: found
        for split, names in WORDS.items()
        if (found := next((one for one in names if one in tables), None))
    }
    if "train" not in parts:
        raise ConfigError(
            f"data=hf:{name} has the splits {', '.join(tables)} and none called train: name one "
            f"with data=image_folder data.train=hf:{name}:SPLIT or data=text_files "
            f"data.train=hf:{name}:SPLIT:COLUMN"
        )
    parts = {"train": parts["train"]} if whole else parts
    table = tables[parts["train"]]
    group, ending, said = columns(table, datasets, whole)
    if group is None:
        raise ConfigError(f"data=hf:{name} has neither images nor texts in its columns {said}")
    left = [split for split in tables if split not in parts.values()]
    said += f", of {', '.join(map(repr, table.column_names))}"
    said += "".join(f"; the split {split!r} is not read" for split in left)
    sources = {split: f"hf:{name}:{found}{ending}" for split, found in parts.items()}
    return Described(group, said, sources, side_of(table, datasets) if group == "image_folder" else None)


def side_of(table: Any, datasets: Any) -> int | None:
    """The side at which the images of a table are read, by the first of them; None if they are large."""
    column = next(name for name, kind in table.features.items() if isinstance(kind, datasets.Image))
    sides = []
    for row in islice(table, FEW):
        with contextlib.suppress(Exception):  # a damaged one is told of when it is read
            sides.append(min(row[column].size))
    return nearest_side(sides)


def columns(table: Any, datasets: Any, whole: bool) -> tuple[str | None, str, str]:
    """The group, what a source says after its split, and what is said of the columns."""
    from ssl_zoo.data.text_chats import is_chat
    from ssl_zoo.data.text_tables import named

    kinds = table.features
    classes = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    image = next((name for name, kind in kinds.items() if isinstance(kind, datasets.Image)), None)
    if image is not None:
        labels = f"class {named(classes, LABEL) or classes[0]!r}" if classes else "no labels"
        return "image_folder", "", f"{len(table)} images in column {image!r}, {labels}"
    first = table[:SAMPLE]
    chats = [name for name in kinds if first[name] and is_chat(first[name][0])]
    strings = [n for n, kind in kinds.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
    if not (texts := [*strings, *chats]):
        return None, "", ", ".join(map(repr, kinds))
    lengths = {name: sum(len(cell or "") for cell in first[name]) for name in texts}
    text = text_column(texts, chats, lengths)
    label = named(classes, LABEL) or (classes[0] if classes else named(list(kinds), LABEL))
    label = None if whole or label == text else label
    said = f"{len(table)} texts in column {text!r}, " + ("no labels" if label is None else f"label {label!r}")
    return "text_files", f":{text}" + ("" if label is None else f":{label}"), said
