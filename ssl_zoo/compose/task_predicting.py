"""What a model of another task than classes tells of what lies at a path, as a configuration asks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.evaluation import single_samples
from ssl_zoo.compose.objects import Objects
from ssl_zoo.compose.own_tasks import table_at
from ssl_zoo.compose.task_reading import examples, in_pieces, read_items, readable
from ssl_zoo.compose.task_tuning import plain
from ssl_zoo.data import conll
from ssl_zoo.data.items import Item
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.target_tables import Columns
from ssl_zoo.data.text_tables import table
from ssl_zoo.messages import note
from ssl_zoo.transfer.embed import Account, pieces
from ssl_zoo.transfer.tasks.files import SENTENCES, TABLES, Folder
from ssl_zoo.transfer.tasks.goal import Examples
from ssl_zoo.transfer.tasks.masks import Masks
from ssl_zoo.transfer.tasks.model import TaskModel
from ssl_zoo.transfer.tasks.pooled import Pooled
from ssl_zoo.transfer.tasks.tuning import Truth, tell
from ssl_zoo.transfer.whole import adding, refuse_ending

PIECE = {"masks": 32, "tags": 256}  # rows that are told at a time
USUAL = 512


@dataclass
class Told:
    """What was told.

    Attributes:
        account: how many rows there were, and what was left out.
        scores: against the targets that the rows have, as in model.json; None where one has none.
        out: the file or folder; None where none was asked for.
    """

    account: Account = field(default_factory=Account)
    scores: dict[str, Any] | None = None
    out: Path | None = None


def predict_task(
    cfg: DictConfig,
    choices: dict[str, str],
    each: Callable[[Any], object],
    model: TaskModel,
    objects: Objects,
    file: bool,
) -> Told:
    """Tell what a configuration asks for; arguments are those of `predicting.predict_from`.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be.
    """
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    made = Told()
    if cfg.text is not None:
        each(tell_texts(model, [cfg.text])[0])
        made.account.count = 1
        return made
    place, default = None, cfg.out is None
    if not default or file:
        ending = {"tags": ".conll", "masks": ""}.get(model.goal.task, ".csv")
        usual = Path(cfg.model) / "predictions" / f"{choices['data']}-{cfg.split}{ending}"
        place = usual if default else Path(cfg.out)
        made.out = place
    numbers: list[torch.Tensor] = []
    scored: list[Examples] = []
    known = True
    with (
        nullcontext() if place is None else written(model, place, source_of(cfg, objects), default) as writer
    ):
        for items, rows, labelled in rows_of(cfg, model, objects, made.account):
            out = tell(model.subject.backbone, model.head, model.goal, rows, model.subject.device)
            some = model.goal.answers(out, items, rows)
            made.account.count += len(some)
            known = known and labelled
            if known:
                numbers += out
                scored.append(rows)
            if writer is not None:
                writer.add(some)
            for one in some:
                each(one)
    for line in made.account.lines():
        note(line)
    if not made.account.count:
        raise DataError(f"{choices['data']}: nothing could be read")
    if known:
        made.scores = plain(model.goal, model.goal.scores(numbers, Truth(*scored)), len(numbers))
    return made


def source_of(cfg: DictConfig, objects: Objects) -> Path | None:
    """The file or folder of the data, where it is one."""
    train = None if objects.data is not None else cfg.data.get("train")
    return Path(train) if isinstance(train, str) and Path(train).exists() else None


def rows_of(
    cfg: DictConfig, model: TaskModel, objects: Objects, account: Account
) -> Iterator[tuple[list[Item], Examples, bool]]:
    """The rows piece by piece: their items, what is read of them, and whether their targets are known."""
    task, source = model.goal.task, source_of(cfg, objects)
    size = int(model.reads.get("image_size") or 224)
    if task in ("labels", "regression") and (source is None or table_at(source) is None):
        yield from whole_rows(cfg, model, objects, account)
        return
    if source is None:
        raise ConfigError(f"a model of {task} reads files: ssl-zoo predict MODEL PATH")
    for some in in_pieces(items_at(task, source, model), PIECE.get(task, USUAL)):
        known = all(item.target is not None for item in some)
        try:
            rows = examples(model.goal, some, model.subject, size, known)
        except DataError as error:
            if not known:
                raise
            note(f"nothing is scored: {error}")
            rows, known = examples(model.goal, some, model.subject, size, False), False
        if model.subject.backbone.modality == "image":
            some, wrong = readable(some, size)
            account.damaged += wrong
            if wrong:
                rows = examples(model.goal, some, model.subject, size, known)
        if some:
            yield some, rows, known


def items_at(task: str, source: Path, model: TaskModel) -> list[Item]:
    """What lies at a path, read as the train rows were; targets are None where it has none.

    Raises:
        ConfigError: the model does not say how, or the table lacks the column of inputs.
    """
    if task == "tags":
        texts = source.is_file() and source.suffix.lower() in (".txt", ".md")
        if texts and not conll.looks_like_conll(source) and not conll.one_word_a_line(source):
            return conll.read_sentences(source)
        tag = model.reads.get("tag")
        return read_items(task, source, Columns(None, None, "text"), tag if type(tag) is int else None)  # pyright: ignore
    columns = columns_at(model)
    there = table_at(source)
    if task == "masks" and there is None:
        return read_items(task, source, columns._replace(input=None))  # pyright: ignore[reportArgumentType]
    assert there is not None
    if lacking := [
        one for one in named(columns.label) if isinstance(one, str) and not has(there, one, columns)
    ]:
        note(f"{there} has no column {lacking[0]!r}: nothing is scored")
        columns = columns._replace(label=None)
    if task == "masks" and columns.label is None:
        items = read_items("labels", there, columns, unlabelled=True)
        return [Item(str(item.input), None, item.input) for item in items]
    return read_items(task, there, columns, unlabelled=True)


def columns_at(model: TaskModel) -> Columns:
    """The columns that the train rows had."""
    found = model.reads.get("columns")
    try:
        columns = Columns(**found)  # pyright: ignore[reportCallIssue]
    except TypeError as error:
        raise ConfigError("model.json does not say which columns of a table are read") from error
    return columns._replace(label=tuple(columns.label)) if isinstance(columns.label, list) else columns


def named(label: Any) -> tuple[Any, ...]:
    """The columns of labels."""
    return label if isinstance(label, tuple) else () if label is None else (label,)


def has(file: Path, column: str, columns: Columns) -> bool:
    """Whether the first row of a table has a column."""
    first = next(table(file, delimiter=columns.delimiter, header=True), None)
    return first is not None and (
        column in first.names or (isinstance(first.fields, dict) and column in first.fields)
    )


def whole_rows(
    cfg: DictConfig, model: TaskModel, objects: Objects, account: Account
) -> Iterator[tuple[list[Item], Examples, bool]]:
    """The images or texts of data that is no table, whose targets nobody knows."""
    data = single_samples(cfg, objects)
    for names, rows in pieces(model.subject, data, cfg.split, account):
        account.count -= len(names.files)  # which whoever tells them counts
        items = [Item(file, row, None) for file, row in zip(names.files, names.rows, strict=True)]
        yield items, Pooled(rows, None), False


def tell_texts(model: TaskModel, texts: list[str]) -> list[Any]:
    """What is told of texts.

    Raises:
        ConfigError: the model reads images.
        DataError: there is no text.
    """
    if model.subject.backbone.modality != "text":
        raise ConfigError("this model reads images: give the path of a file or folder")
    if not texts or not all(one.strip() for one in texts):
        raise DataError("there is no text to read" if not texts else "one of the texts is empty")
    tags = model.goal.task == "tags"
    items = [Item("", i, tuple(text.split()) if tags else text) for i, text in enumerate(texts)]
    rows = examples(model.goal, items, model.subject, 0, False)
    told = tell(model.subject.backbone, model.head, model.goal, rows, model.subject.device)
    return model.goal.answers(told, items, rows)


def written(model: TaskModel, out: Path, source: Path | None, default: bool) -> AbstractContextManager[Any]:
    """Within, what is told is written to `out`; see `tasks.files`.

    Raises:
        ConfigError: a folder of masks that something lies in already.
    """
    if isinstance(model.goal, Masks):
        if not default and out.exists() and (out.is_file() or any(out.iterdir())):
            raise ConfigError(
                f"out={out} is there already: masks go into a folder of their own, so name a new one"
            )
        if out.suffix.lower() in (*TABLES, ".png"):
            raise ConfigError(f"out={out}: masks go into a folder, with a table of shares; name one")
        return folder_of_masks(model.goal, out, source)
    kinds = SENTENCES if model.goal.task == "tags" else TABLES
    refuse_ending(out, tuple(kinds))
    return adding(out, kinds)


@contextmanager
def folder_of_masks(goal: Masks, out: Path, source: Path | None) -> Iterator[Folder]:
    """Within, masks are written into a folder that takes the place `out` at the end."""
    root = Path() if source is None else source if source.is_dir() else source.parent
    root = root / "images" if (root / "images").is_dir() and (root / "masks").is_dir() else root
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        made = Folder(part, root, goal.palette)
        try:
            yield made
        finally:
            made.close()
        if out.exists():
            shutil.rmtree(out)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def where(one: Any) -> str:
    """The place of a row, for people."""
    return one.file if one.row is None else f"{one.file} row {one.row:,}".strip()
