"""Which task the data at a path is labelled for, which is guessed and said.

- masks: a folder with images/ and masks/, or a table that names both.
- tags: CoNLL-style files.
- labels: a table whose label column holds lists, or cells with several labels parted by ; or |, or several
  columns of 0 and 1 that label=[...] names.
- regression: a table whose label column holds numbers that are not whole, or whole ones that hardly recur.
- classes: everything else, which `own_data` reads.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_files import CONLL, files, kind_of, splits
from ssl_zoo.compose.own_tables import LABEL, TEXT, parted
from ssl_zoo.messages import note

TASKS = ("classes", "labels", "regression", "tags", "masks")
TARGETS = ("labels", "tags", "topics", "genres", "categories", "score", "value", "price", *LABEL)
MASK = ("mask", "masks", "mask_path", "segmentation", "annotation", "label")
SEPARATORS = ";|"
PART = 0.05  # of the cells of a column that hold a separator, where it parts labels


class Found(NamedTuple):
    """What lies at a path.

    Attributes:
        task: one of `TASKS`.
        modality: "image" or "text".
        said: a line for people.
        input, label: columns of a table. Of masks, label is the column of the mask.
        delimiter: of its cells. separator: of the labels in a cell; None: the cells are lists.
    """

    task: str
    modality: str = "text"
    said: str = ""
    input: Any = None
    label: Any = None
    delimiter: str = ","
    separator: str | None = None


class Wish(NamedTuple):
    """What somebody says of the data: keys of `ssl-zoo finetune`, None where nothing is said."""

    task: str | None = None
    input: Any = None
    label: Any = None


def task_words(path: Path, given: list[str]) -> list[str] | None:
    """The words that say what lies at a path, where it is labelled for another task than classes; else None.

    Raises:
        ConfigError: a task that is unknown or that the data is not for.
    """
    wish = wish_of(given)
    found = look(path, wish)
    if found.task == "classes":
        if wish.label is not None or wish.input is not None:
            raise ConfigError(
                "label= and input= are for task=labels, regression and masks; those of classes are named by "
                "data.format.label= and data.format.text= (texts), data.label= and data.image= (images)"
            )
        return None
    parts = splits(path)
    carved = not names_splits(given) and "validation" not in parts
    held = "; a tenth is held out as validation (data.validation_fraction)" if carved else ""
    named = "".join(f", {split} from {part.name}" for split, part in parts.items() if len(parts) > 1)
    note(f"data={path}: {found.said}{named}{held} (task={found.task})")
    return [*raw_words(path, parts, found.modality), f"task={found.task}"]


def model_words(path: Path, task: str) -> list[str] | None:
    """The words for what a model of this task reads at a path; None for what is read as for classes."""
    kind = "folder" if path.is_dir() else kind_of(path)
    if task in ("tags", "masks") or (task in TASKS[1:3] and kind == "tables"):
        return raw_words(path, {"train": path}, "image" if task == "masks" else "text")
    return None


def raw_words(path: Path, parts: dict[str, Path], modality: str) -> list[str]:
    """The words that name files, which the task itself reads."""
    group = "image_folder" if modality == "image" else "text_files"
    made = [f"data={group}", *(f"data.{split}={overrides.quote(str(part))}" for split, part in parts.items())]
    made += ["data.format.separator=line"] if modality == "text" else []  # or that of the run would be taken
    return [*made, f"data.name={overrides.quote(path.absolute().name or 'root')}"]


def names_splits(given: list[str]) -> bool:
    """Whether words name a file that says which split each sample is of."""
    return any(overrides.split(word).key.startswith("data.splits") for word in given)


def wish_of(given: list[str]) -> Wish:
    """What words say of the data."""
    said: dict[str, Any] = {}
    for word in map(overrides.split, given):
        if word.key in Wish._fields and word.value not in (None, "null"):
            value = overrides.parsed(f"k={word.value}")
            said[word.key] = word.value if isinstance(value, Exception) else plain(value)
    wish = Wish(**said)
    if wish.task is not None and wish.task not in TASKS:
        raise ConfigError(f"task={wish.task} is none of {', '.join(TASKS)}")
    return wish


def plain(value: Any) -> Any:
    """A value of Hydra's as a text, a number, or a list of them."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool)
        else str(getattr(value, "text", value))
    )


def look(path: Path, wish: Wish) -> Found:
    """What lies at a path, which `wish` may say in part.

    Raises:
        ConfigError: it is not what the task takes.
    """
    from ssl_zoo.data.masks import has_masks

    train = splits(path)["train"]
    if wish.task == "classes":
        return Found("classes")
    if wish.task in (None, "masks") and has_masks(train):
        return Found("masks", "image", "images with masks of equal names, in images/ and masks/")
    if wish.task in (None, "tags") and (count := conll_files(train, wish.task is not None)):
        of = f"{count} files" if count > 1 else "a file"
        return Found("tags", "text", f"{of} of words with tags, the last column (tag= names another)")
    if table := table_at(train):
        found = look_into(table, wish)
        beside = found.modality == "text" and any(kind_of(one) == "images" for one in files(train))
        if wish.task == found.task or (wish.task is None and not beside):
            return found
    if wish.task is None:
        return Found("classes")
    wanted = {
        "masks": "a folder with images/ and masks/, or a table with a column of images and one of masks",
        "tags": "files with a word and its tag on each line",
        "labels": "a table whose label column holds several labels, or label=[...] of columns of 0 and 1",
        "regression": "a table whose label column holds numbers",
    }[wish.task]
    raise ConfigError(f"data={path}: task={wish.task} takes {wanted}")


def table_at(train: Path) -> Path | None:
    """The one table at a path; None where there is none, or other files beside it that are none."""
    found = files(train)
    tables = [one for one in found if kind_of(one) == "tables"]
    inside = train.is_dir() and any(kind_of(one) in ("texts", "shards") for one in found)
    return tables[0] if len(tables) == 1 and not inside else None


def conll_files(train: Path, wanted: bool) -> int:
    """How many files at a path are of words with tags; 0 where a file of text is not.

    wanted: whether somebody said that they are, so that no look into texts is needed.
    """
    from ssl_zoo.data.conll import looks_like_conll
    from ssl_zoo.data.rows import DataError

    found = files(train)
    sure = [one for one in found if one.suffix.lower() in CONLL]
    texts = [one for one in found if one not in sure and one.suffix.lower() in (".txt", ".tsv")]
    if sure or not texts or (wanted and train.is_dir()):
        return len(sure) + (len(texts) if wanted else 0)
    with contextlib.suppress(DataError):  # what cannot be read is told of where it is read
        return len(texts) if wanted or looks_like_conll(texts[0]) else 0
    return 0


def look_into(file: Path, wish: Wish) -> Found:
    """What a table is labelled for."""
    from ssl_zoo.data.text_tables import named

    delimiter, names, rows = parted(file)
    column, modality = input_column(names, rows, wish.input)
    of = f"of {', '.join(map(repr, names))} (input=, label=)"
    said = f"a table; the {modality} is column {column!r}"
    if modality == "image" and wish.task in (None, "masks"):
        mask = wish.label if isinstance(wish.label, (str, int)) else named(names, MASK)
        cells = [Path(str(row.get(mask, ""))) for row in rows]
        if mask not in (None, column) and cells and all(kind_of(one) == "images" for one in cells):
            return Found("masks", "image", f"{said}, the mask column {mask!r}, {of}", column, mask, delimiter)
    if wish.task in ("masks", "tags"):
        return Found("classes")
    if isinstance(wish.label, list):
        if lacking := [one for one in wish.label if one not in names]:
            raise ConfigError(
                f"label: {file} has no column {lacking[0]!r}, only {', '.join(map(repr, names))}"
            )
        several = tuple(wish.label)
        said += f", each of {', '.join(map(repr, several))} a label of 0 or 1, {of}"
        return Found("labels", modality, said, column, several, delimiter)
    rest = [name for name in names if name != column]
    label = label_column(rest, rows, wish.task) if wish.label is None else wish.label
    if label is None or label not in names:
        if wish.label is not None or wish.task is not None:
            what = "no column" if wish.label is None else f"no column {label!r}"
            kind = "numbers" if wish.task == "regression" else "labels"
            raise ConfigError(f"{file} has {what} of {kind}, only {', '.join(map(repr, names))} (label=)")
        return Found("classes")
    cells = [row.get(label) for row in rows]
    lists, sign = holds_lists(cells), separator_in(cells)
    if wish.task == "labels" or (wish.task is None and (lists or sign)):
        how = "lists" if lists else f"parted by {sign!r}" if sign else "one a cell, as none holds ; or |"
        said += f", labels are column {label!r}, {how}, {of}"
        return Found("labels", modality, said, column, label, delimiter, None if lists else sign)
    if wish.task == "regression" or (wish.task is None and is_quantity(cells)):
        why = "" if wish.task is not None else ", a quantity as it has fractions or hardly recurs"
        said += f", the number is column {label!r}{why}, {of}; task=classes takes its values as names"
        return Found("regression", modality, said, column, label, delimiter)
    return Found("classes")


def input_column(names: list[Any], rows: list[dict[Any, Any]], wanted: Any) -> tuple[Any, str]:
    """The column of the images or texts, and which of the two it holds."""
    from ssl_zoo.data.image_tables import IMAGES, pixels
    from ssl_zoo.data.text_tables import named

    if wanted is not None and wanted not in names:
        raise ConfigError(f"input={wanted}: there is no such column, only {', '.join(map(repr, names))}")
    held = next((name for name in names if rows and pixels(rows[0].get(name)) is not None), None)
    image = wanted if wanted is not None else named(names, IMAGES) if held is None else held
    cells = [row.get(image) for row in rows]
    if cells and (image == held is not None or is_images(cells)):
        return image, "image"
    lengths = {name: sum(len(str(row.get(name, ""))) for row in rows) for name in names}
    if wanted is None:
        wanted = named(names, TEXT) or max(names, key=lambda name: lengths[name])
    return wanted, "text"


def label_column(names: list[Any], rows: list[dict[Any, Any]], task: str | None) -> Any:
    """The column of targets: one of a usual name, else the first that holds several labels, or, where a
    number is asked for, a quantity; None for none."""
    from ssl_zoo.data.text_tables import named

    cells = {name: [row.get(name) for row in rows] for name in names}
    several = (name for name in names if holds_lists(cells[name]) or separator_in(cells[name]))
    if task == "regression":
        amounts = [name for name in names if numbers(cells[name])]
        quantity = next((name for name in amounts if is_quantity(cells[name])), None)
        return named(amounts, TARGETS) or quantity
    found = named(names, TARGETS)
    return next(several, None) if found is None and task in (None, "labels") else found


def holds_lists(cells: list[Any]) -> bool:
    """Whether some of these cells are lists."""
    return any(isinstance(cell, (list, tuple)) for cell in cells)


def is_images(cells: list[Any]) -> bool:
    """Whether most of these cells name image files."""
    return 2 * sum(isinstance(c, str) and kind_of(Path(c)) == "images" for c in cells) > len(cells)


def separator_in(cells: list[Any]) -> str | None:
    """The sign that parts labels in these cells; None where none does.

    It stands in some of them, and what it parts are short names that recur.
    """
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    for sign in SEPARATORS:
        with_it = [text for text in texts if sign in text]
        parts = [part.strip() for text in texts for part in text.split(sign) if part.strip()]
        if (
            len(with_it) > PART * len(texts)
            and max(map(len, parts)) <= 40
            and len(set(parts)) * 2 <= len(parts)
        ):
            return sign
    return None


def numbers(cells: list[Any]) -> list[float]:
    """The numbers in these cells, of which some may be empty; [] where one holds anything else."""
    values = [cell for cell in cells if cell is not None and cell != ""]
    try:
        return [] if any(isinstance(cell, bool) for cell in values) else [float(cell) for cell in values]
    except (TypeError, ValueError):
        return []


def is_quantity(cells: list[Any]) -> bool:
    """Whether these cells are numbers that stand for an amount and not for a class."""
    found = numbers(cells)
    few = sum(count for _, count in Counter(found).items() if count > 1) * 2 < len(found)
    return any(number % 1 != 0 for number in found) or (few and len(found) > 20)
