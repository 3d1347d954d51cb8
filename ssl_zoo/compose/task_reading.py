"""Files of a task as items, and items as the rows that its goal is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_zoo.backbones._base import ImageBackbone, TokenBackbone
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.own_files import CONLL, files
from ssl_zoo.compose.own_tasks import Found, table_at
from ssl_zoo.data import conll, masks
from ssl_zoo.data.items import ImageList, Item, carve
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.split_files import Assigned, dealt
from ssl_zoo.data.target_tables import Columns, read_table
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.messages import note
from ssl_zoo.transfer.measures import Subject
from ssl_zoo.transfer.tasks.goal import Examples, Goal
from ssl_zoo.transfer.tasks.labels import Labels
from ssl_zoo.transfer.tasks.masks import Masks
from ssl_zoo.transfer.tasks.pixels import Pixels
from ssl_zoo.transfer.tasks.pooled import Pooled
from ssl_zoo.transfer.tasks.regression import Regression
from ssl_zoo.transfer.tasks.tags import Tags
from ssl_zoo.transfer.tasks.words import Words


def columns_of(found: Found) -> Columns:
    """Which columns of a table are read."""
    return Columns(found.input, found.label, found.modality, found.delimiter, found.separator)


def read_items(
    task: str, path: Path, columns: Columns, tag: int | None = None, unlabelled: bool = False
) -> list[Item]:
    """What lies at a path, for a task.

    unlabelled: whether rows of a table are wanted that have no label.

    Raises:
        ConfigError: there is no table where one is needed.
        DataError: what lies there cannot be read as that.
    """
    if task == "tags":
        inside = [
            one for one in files(path) if path.is_file() or one.suffix.lower() in (*CONLL, ".txt", ".tsv")
        ]
        return [item for one in inside for item in conll.read_conll(one, tag)]
    if task == "masks" and columns.input is None:
        return masks.read_folder(path)
    if (table := table_at(path)) is None:
        raise ConfigError(f"{path} holds no table, or several: name one of them")
    if task == "masks":
        assert isinstance(columns.label, (str, int))
        return masks.read_mask_table(table, columns.input, columns.label, columns.delimiter)
    return read_table(table, columns, task, unlabelled)


def parts(
    task: str,
    sources: dict[str, Path],
    columns: Columns,
    tag: int | None,
    fractions: dict[str, float],
    assigned: Assigned | None = None,
) -> dict[str, list[Item]]:
    """Split -> its items. A split without a source is carved from train, where a fraction says how much; or
    train is parted as a file of splits says.

    Raises:
        DataError: an item has no target, there are too few to carve, or the file fits no item.
    """
    found = {split: read_items(task, path, columns, tag) for split, path in sources.items()}
    if assigned is not None:
        found = as_assigned(assigned, found["train"])
    for split, items in found.items():
        if lacking := next((one for one in items if one.target is None), None):
            raise DataError(
                f"{lacking.where} ({split}) has no label: every row that is learnt from needs one"
            )
    for split in ("test", "validation"):
        if split in found or assigned is not None or not fractions.get(split):
            continue
        found["train"], found[split], back = carve(found["train"], fractions[split], traits_of(task))
        if back:
            note(f"{back} of the {split} rows stay in train, as nothing else there is labelled so")
    return found


def as_assigned(assigned: Assigned, items: list[Item]) -> dict[str, list[Item]]:
    """Split -> the items that a file of splits gives it, by their row in a table or by the name of their
    file, which is that of the image where a table names images."""
    by_row = assigned.rows is not None
    files = [str(i.input) if isinstance(i.input, Path) and not by_row else i.file for i in items]
    index = dealt(assigned, files, [item.row for item in items])
    return {split: [items[i] for i in index[split]] for split in assigned.parts}


def traits_of(task: str) -> Any:
    """What the target of an item consists of: names of labels, tags or classes; nothing of a number."""

    def traits(item: Item) -> Iterable[Any]:
        if task == "masks":
            return masks.numbers_in(item.target)
        return () if task == "regression" else item.target

    return traits


def goal_of(task: str, train: Sequence[Item], subject: Subject, head: str) -> Goal:
    """The goal that train items set. Raises DataError where they leave nothing to tell."""
    if task == "masks":
        backbone = subject.backbone
        assert isinstance(backbone, ImageBackbone)
        return Masks.learnt(train, backbone.grid(*backbone.image_size), head)  # pyright: ignore
    made: dict[str, Any] = {"labels": Labels, "regression": Regression, "tags": Tags}
    return made[task].learnt(train)


def examples(goal: Goal, items: Sequence[Item], subject: Subject, size: int, known: bool = True) -> Examples:
    """The rows of items.

    Args:
        size: pixels a side at which images are read. known: whether the items have targets.

    Raises:
        DataError: a target that train lacks, or an input that cannot be read.
    """
    if isinstance(goal, Tags):
        backbone = subject.backbone
        last = isinstance(backbone, TokenBackbone) and backbone.order == "causal"
        rows = Words(items, subject.words(), subject.length, goal.targets(items) if known else None, last)
        return told_cut(rows, len(items))
    if isinstance(goal, Masks):
        if known:
            goal.refuse_unseen(items)
        return Pixels(items, size, goal.number)
    assert isinstance(goal, (Labels, Regression))
    targets = goal.targets(items) if known else None
    return Pooled(inputs(items, subject, size), targets)


def inputs(items: Sequence[Item], subject: Subject, size: int) -> Any:
    """Texts or images as rows."""
    if subject.backbone.modality == "image":
        return ImageList([item.input for item in items], [item.where for item in items], size)
    rows = DocumentRows([item.input for item in items], subject.words(), subject.length)
    return told_cut(rows, len(items))


def told_cut(rows: Any, count: int) -> Any:
    """The same rows, of which is said how many are cut."""
    if rows.cut:
        note(f"{rows.cut:,} of {count:,} texts are longer than is read, and are cut (length=)")
    return rows


def in_pieces(items: Sequence[Item], count: int) -> Iterator[list[Item]]:
    """The items, so many at a time."""
    for start in range(0, len(items), count):
        yield list(items[start : start + count])


def readable(items: list[Item], size: int) -> tuple[list[Item], list[str]]:
    """The items whose images can be read, and what is wrong with each of the others."""
    good, wrong = [], []
    for item in items:
        try:
            ImageList([item.input], [item.where], size).read(np.zeros(1, np.int64))
            good.append(item)
        except DataError as error:
            wrong.append(str(error))
    return good, wrong
