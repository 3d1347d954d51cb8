"""data=PATH: a folder or file of one's own, read as what lies there; what is guessed is said, with its keys.

Images make data=image_folder, texts and tables data=text_files. A folder with train, validation and test in
it gives the splits; class folders give labels.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.messages import note

PACKED = (".gz", ".xz", ".bz2")  # as text_files.py unpacks
SHARDS = (".tar", ".tar.gz", ".tgz")
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
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
SAMPLE = 200  # rows of a table that the guess reads
SHORT = 20_000  # bytes of a file, in the mean: shorter ones are a document each
HELD_OUT = 0.2  # of the labelled rows, where an evaluation is given no test split
PARTED = "blank_line"  # what parts documents where nothing else is said
CARVED = ("pretrain", "finetune", "evaluate", "look")  # verbs that read a validation split
WHOLE = ("embed", "predict")  # verbs that read all that lies at a path, as one


def chosen(verb: str, given: list[str], choices: list[str]) -> list[str]:
    """The words, with data=PATH spelt out as a choice of the group and its keys.

    Raises:
        ConfigError: nothing is there, nothing that can be read, or several kinds of it.
    """
    at = next((i for i, word in enumerate(given) if word.startswith("data=")), None)
    if at is None:
        return given
    value = overrides.unquoted(given[at].partition("=")[2])
    path = Path(value).expanduser()
    if value in choices:
        if path.exists():
            note(f"data={value} is the data set of that name; your own {value} is data=./{value}")
        return given
    if not path.exists():
        if "/" in value or (path.suffix and kind_of(path) is not None):
            raise ConfigError(f"data={value}: there is no such file or folder, and no data set of that name")
        return given
    made = pairs(path) if "protocol=completion" in given and verb == "finetune" else spelt(verb, path)
    if (where := place_of_run(given)) is not None:
        made += inherited(where, made)
    typed = {overrides.split(word).key for word in given}
    made = [word for word in made if overrides.split(word).key not in typed - {"data"}]
    return [*given[:at], *made, *given[at + 1 :]]


def place_of_run(given: list[str]) -> Path | None:
    """The run or the model that a word names and that is there; None for none."""
    words = [overrides.split(word) for word in given]
    named = [
        Path(overrides.unquoted(one.value)) for one in words if one.key in ("run", "model") and one.value
    ]
    return next((path for path in named if any((path / name).is_file() for name in DESCRIBED)), None)


DESCRIBED = ("config.yaml", "model.json")  # what says how a run, or a model, read its data


def inherited(run: Path, made: list[str]) -> list[str]:
    """Words that have files read as those of the run were: the size of images, and what parts documents.

    Args:
        run: the folder of a run or of a model.
        made: the words that say what lies at the path.
    """
    file = next(run / name for name in DESCRIBED if (run / name).is_file())
    try:
        about = OmegaConf.to_container(OmegaConf.load(file))
    except (OmegaConfBaseException, OSError, ValueError, YAMLError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    data = about.get("data" if file.suffix == ".yaml" else "reads") if isinstance(about, dict) else None
    data = data if isinstance(data, dict) else {}
    chosen = made[0].removeprefix("data=")
    if chosen in ("image_folder", "image_captions") and isinstance(size := data.get("image_size"), int):
        note(f"images are read at {size} pixels a side, as those of {run} (data.image_size)")
        return [f"data.image_size={size}"]
    form = data.get("format") or {}
    guessed = any(overrides.split(word).key.startswith(("data.format", "~data.format")) for word in made)
    if chosen == "text_files" and not guessed and (separator := form.get("separator", PARTED)) != PARTED:
        note(f"documents are parted as those of {run} (data.format.separator={separator})")
        return [f"data.format.separator={separator}"]
    return []


@functools.cache
def kinds() -> dict[str, tuple[str, ...]]:
    """Suffixes by kind; of images, all that the decoder reads."""
    from ssl_zoo.data.image_decoding import suffixes

    return {
        "images": suffixes(),
        "tables": (".csv", ".tsv", ".jsonl", ".parquet"),
        "texts": (".txt", ".md", ".rst", ".py"),
    }


def kind_of(path: Path) -> str | None:
    """What a file holds, by its suffix: images, tables, texts or shards; None for any other file.

    A packed table or text is a table or text.
    """
    name = path.name.lower()
    if name.endswith(SHARDS):
        return "shards"
    name = name.removesuffix(path.suffix.lower()) if path.suffix.lower() in PACKED else name
    return next((kind for kind, ends in kinds().items() if name.endswith(ends)), None)


def spelt(verb: str, path: Path) -> list[str]:
    """The words that say what lies at a path, which a note tells the user as well.

    Raises:
        ConfigError: nothing there can be read, or several kinds can, or a split holds no table.
    """
    found = files(path)
    counts = Counter(kind_of(one) for one in found)
    parts = {"train": path} if (whole := verb in WHOLE) else splits(path)
    if listing := labels_of_images(path, found, counts):
        parts, found, counts = {"train": listing}, [listing], Counter(tables=1)
    readable = {kind: counts[kind] for kind in ("images", "tables", "texts", "shards") if counts[kind]}
    if not readable:
        ends = Counter(one.suffix or one.name for one in found).most_common(5)
        there = ", ".join(f"{n} {end}" for end, n in ends) or "nothing"
        raise ConfigError(
            f"data={path}: no images, texts or tables there (found: {there}); looked for "
            + ", ".join(end for ends in kinds().values() for end in ends)
            + ", .tar"
        )
    most = max(readable, key=lambda kind: readable[kind])
    others = {kind: n for kind, n in readable.items() if kind != most}
    if sum(others.values()) * 10 > readable[most]:
        there = " and ".join(f"{n} {kind}" for kind, n in readable.items())
        raise ConfigError(
            f"data={path} holds {there}: name the folder or file of one kind, or say how it is read with "
            "data=image_folder or data=text_files and data.train=PATH"
        )
    left = "".join(f"; {n} {kind} there are not read" for kind, n in others.items())
    of = {
        split: [one for one in found if part == one or part in one.parents] for split, part in parts.items()
    }
    if most in ("images", "shards"):
        group = "image_folder"
        said = f"{readable[most]} {most}" if readable[most] > 1 else f"one {most.removesuffix('s')}"
        packed = any(one.suffix in (".gz", ".tgz") for one in found)
        more = ["data.unpack=false"] if (whole or verb == "look") and not packed else []
        sources: dict[str, Any] = {
            split: str(part / "*.tar*") if most == "shards" and part.is_dir() else part
            for split, part in parts.items()
        }
    elif most == "tables":
        tables = {split: [one for one in inside if kind_of(one) == "tables"] for split, inside in of.items()}
        if lacking := [parts[split] for split, inside in tables.items() if not inside]:
            raise ConfigError(
                f"data={path} holds tables, and {lacking[0]} holds none: add one, or say which are read with "
                "data=text_files data.train=PATH"
            )
        sources = {split: inside[0] if len(inside) == 1 else inside for split, inside in tables.items()}
        images = image_columns(tables["train"][0])
        group, more, said = images or ("text_files", *columns(tables["train"][0], labels=not whole))
        if images is not None and any(isinstance(source, list) for source in sources.values()):
            raise ConfigError(f"data={path} holds several tables of images: name one of them")
        if group == "image_folder" and (whole or verb == "look") and "hold" not in said:
            more.append("data.unpack=false")
    else:
        group, more, sources = "text_files", [], dict(parts)
        texts = [one for one in found if kind_of(one) == "texts"]
        said = f"{len(texts)} text files" if len(texts) > 1 else "one text file"
        if len(texts) > 1 and sum(one.stat().st_size for one in texts) <= SHORT * len(texts):
            more, said = (
                ["data.format.separator=file"],
                f"{said}, one document a file (data.format.separator)",
            )
        else:
            said += ", documents parted by empty lines (data.format.separator)"
        if parts["train"].is_dir() and (classes := class_folders(parts["train"])):
            sources = {split: {c: part / c for c in class_folders(part)} for split, part in parts.items()}
            more, said = (
                ["data.format.separator=file"],
                f"{len(classes)} classes of text files, one document a file",
            )
    made = [f"data={group}", *(f"data.{split}={literal(source)}" for split, source in sources.items()), *more]
    made.append(f"data.name={overrides.quote(path.absolute().name or 'root')}")
    if verb in CARVED and "validation" not in parts and group != "image_captions":
        said += "; a tenth is held out as validation (data.validation_fraction)"
    if whole and group != "image_captions":
        made.append("data.validation_fraction=0.0")
    if verb == "evaluate" and "test" not in parts and group != "image_captions":
        made.append(f"data.test_fraction={HELD_OUT}")
        said += f"; a test split of {HELD_OUT} is carved (data.test_fraction)"
    given = "".join(f", {split} from {part.name}" for split, part in parts.items() if len(parts) > 1)
    note(f"data={path}: {said}{given}{left} (data={group} data.train=...)")
    return made


def pairs(path: Path) -> list[str]:
    """The words for a table of prompts and completions, whose columns are looked up when it is read."""
    parts = splits(path)
    if any(kind_of(part) != "tables" or part.is_dir() for part in parts.values()):
        raise ConfigError(
            f"data={path}: prompts with their completions are a .jsonl, .csv or .tsv file, or a folder with "
            "a train and a validation file of that kind"
        )
    note(f"data={path}: pairs of prompts and completions (prompt=, completion= name the columns)")
    made = [f"data.{split}={literal(part)}" for split, part in parts.items()]
    return ["data=text_files", *made, f"data.name={overrides.quote(path.absolute().name or 'root')}"]


def files(path: Path) -> list[Path]:
    """All files at a path, sorted; hidden ones and hidden folders left out, links to folders not followed."""
    if not path.is_dir():
        return [path]
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def splits(path: Path) -> dict[str, Path]:
    """Split -> where it lies: what is called train, validation and test, else all of it is train."""
    found: dict[str, Path] = {}
    for one in sorted(path.iterdir()) if path.is_dir() else ():
        stem = one.name.partition(".")[0].lower()
        split = next((split for split, names in SPLITS.items() if stem in names), None)
        if split and (one.is_dir() or kind_of(one)):
            found.setdefault(split, one)
    order = [split for split in SPLITS if split in found]
    return {split: found[split] for split in order} if "train" in found else {"train": path}


def class_folders(path: Path) -> list[str]:
    """Names of the folders in a folder that holds no text itself."""
    inside = [one for one in sorted(path.iterdir()) if not one.name.startswith(".")]
    if any(one.is_file() and kind_of(one) == "texts" for one in inside):
        return []
    return [one.name for one in inside if one.is_dir() and any(kind_of(f) == "texts" for f in files(one))]


def literal(source: Any) -> str:
    """A source as Hydra reads it: a path, several, or a mapping of class names to paths.

    Raises:
        ConfigError: Hydra cannot spell the name of a class.
    """
    if isinstance(source, dict):
        pairs = (f"{overrides.escape(name)}:{overrides.quote(str(path))}" for name, path in source.items())
        made = "{" + ",".join(pairs) + "}"
        if not isinstance(overrides.parsed(f"k={made}"), dict):
            raise ConfigError(
                f"the class folders {', '.join(source)} have names that Hydra cannot spell: rename them, or "
                "give data=text_files data.train=PATH, which reads them without labels"
            )
        return made
    if isinstance(source, list):
        return "[" + ",".join(overrides.quote(str(path)) for path in source) + "]"
    return overrides.quote(str(source))


def columns(file: Path, labels: bool = True) -> tuple[list[str], str]:
    """The words that say which columns of a table are read, and a line that says which were guessed.

    labels: whether one of the labels is looked for; rows that have none are then left out.
    """
    from ssl_zoo.data.text_tables import named  # brings torch

    delimiter, names, rows = parted(file)
    texts = {name: [str(row.get(name, "")) for row in rows] for name in names}
    lengths = {name: sum(map(len, values)) / max(1, len(values)) for name, values in texts.items()}
    text = named(names, TEXT) or max(names, key=lambda name: lengths[name])
    rest = [name for name in names if name != text]
    few = [n for n in rest if 2 <= len(set(texts[n])) <= max(2, min(100, len(rows) // 5)) and lengths[n] < 40]
    label = named(rest, LABEL) or (min(few, key=lambda name: len(set(texts[name]))) if few else None)
    label = label if labels else None
    made = [
        "data.format._target_=ssl_zoo.data.text_formats.Table",
        "~data.format.separator",
        "data.format.key=null",
        f"+data.format.text={column(text)}",
    ]
    made += [] if label is None else [f"+data.format.label={column(label)}"]
    made += [f"+data.format.delimiter='{delimiter}'"] if delimiter != "," else []
    said = "a table" + (f" parted by {delimiter!r}" if delimiter not in ",\t" else "")
    said += f"; text is column {text!r}" + (", no labels" if label is None else f", label is {label!r}")
    keys = "data.format.text=, data.format.label=" if labels else "data.format.text="
    return made, f"{said}, of {', '.join(map(repr, names))} ({keys})"


def image_columns(file: Path) -> tuple[str, list[str], str] | None:
    """The group, the words and the line for a table of images; None for any other.

    Its rows name image files, or, in a Parquet file, hold them; beside them is a class, or a caption.
    """
    from ssl_zoo.data.image_captions import CAPTIONS
    from ssl_zoo.data.image_tables import IMAGES, LABELS, pixels
    from ssl_zoo.data.text_tables import named

    delimiter, names, rows = parted(file)
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
        return "image_folder", made, f"{said} (data.image=, data.label=)"
    if held is not None:
        return None
    made = [f"data.image={column(image)}", f"data.caption={column(caption)}"]
    made += [f"data.delimiter='{delimiter}'"] if delimiter not in ",\t" else []
    said = f"a table of images and captions; image is column {image!r}, caption {caption!r}"
    return "image_captions", made, f"{said}, of {columns} (data.image=, data.caption=)"


def labels_of_images(path: Path, found: list[Path], counts: Counter[str | None]) -> Path | None:
    """The one table in a folder of images that names them and their classes; None for none."""
    here = [one for one in found if kind_of(one) == "tables" and one.parent == path]
    if not (path.is_dir() and len(here) == counts["tables"] == 1 and counts["images"] > 1):
        return None
    made = image_columns(here[0])
    return here[0] if made is not None and any(word.startswith("data.label=") for word in made[1]) else None


def parted(file: Path) -> tuple[str, list[Any], list[dict[Any, Any]]]:
    """The sign that parts the cells of a table, its names and first rows: in a CSV not always a comma.

    Raises:
        ConfigError: see `sample`.
    """
    usual = "\t" if ".tsv" in file.name.lower() else ","
    names, rows, wrong = [], [], None
    try:
        names, rows = sample(file, usual)
    except ConfigError as error:
        wrong = error
    for sign in ";\t|" if len(names) < 2 and ".csv" in file.name.lower() else ():
        with contextlib.suppress(ConfigError):  # rows of several widths, above all
            other, found = sample(file, sign)
            if len(other) > 1 and found:
                return sign, other, found
    if wrong is not None:
        raise wrong
    return usual, names, rows


def column(name: int | str) -> str:
    """The name or number of a column as Hydra reads it."""
    return str(name) if isinstance(name, int) else overrides.quote(name)


def sample(file: Path, delimiter: str) -> tuple[list[Any], list[dict[Any, Any]]]:
    """Names (or numbers, without a first row of names) of the columns, and the first rows.

    Raises:
        ConfigError: it is not a table.
    """
    from ssl_zoo.data.rows import DataError  # brings torch
    from ssl_zoo.data.text_tables import table

    try:
        cells = [row.fields for row in islice(table(file, delimiter=delimiter), SAMPLE + 1)]
    except DataError as error:
        raise ConfigError(f"data={file} cannot be read as a table: {error}") from error
    if not cells:
        raise ConfigError(f"data={file} is empty")
    if any(ending in file.name.lower() for ending in (".jsonl", ".parquet")):
        if not all(isinstance(row, dict) for row in cells):
            raise ConfigError(f"data={file}: its lines are no JSON objects")
        return list(cells[0]), cells  # pyright: ignore
    first, *others = cast(list[list[str]], cells)
    named = len(set(first)) == len(first) and all(
        0 < len(c) <= 40 and not re.fullmatch(r"[-+.\d]+", c) for c in first
    )
    names: list[Any] = list(first) if named else list(range(len(first)))
    return names, [dict(zip(names, row, strict=True)) for row in (others if named else [first, *others])]
