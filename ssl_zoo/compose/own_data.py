"""data=PATH: a folder or file of one's own, read as what lies there; what is guessed is said, with its keys.

Images make data=image_folder, texts and tables data=text_files. A folder with train, validation and test in
it gives the splits; class folders give labels.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_files import class_folders, files, kind_of, kinds, nearest_side, splits
from ssl_zoo.compose.own_hub import described, name_of
from ssl_zoo.compose.own_tables import columns, image_columns
from ssl_zoo.compose.own_tasks import model_words, task_words
from ssl_zoo.messages import note

QUICK = 64  # pixels a side at most, where minutes count
SHORT = 20_000  # bytes of a file, in the mean: shorter ones are a document each
HELD_OUT = 0.2  # of the labelled rows, where an evaluation is given no test split
PARTED = "blank_line"  # what parts documents where nothing else is said
CARVED = ("pretrain", "finetune", "evaluate", "look", "worth")  # verbs that read a validation split
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
    hub = name_of(value)
    if hub is None and not path.exists():
        if "/" in value or (path.suffix and kind_of(path) is not None):
            raise ConfigError(f"data={value}: there is no such file or folder, and no data set of that name")
        return given
    where = place_of_run(given)
    named = any(overrides.split(word).key.startswith("data.splits") for word in given)
    of_pairs = "protocol=completion" in given and verb == "finetune"
    if hub is not None:
        made = of_hub(verb, hub, where is not None, named)
    elif of_pairs:
        made = pairs(path)
    else:
        made = of_task(verb, path, given, where) or spelt(verb, path, where is not None, named)
    if where is not None and (hub is None or made[0] == "data=image_folder"):
        made += inherited(where, made)
    if verb == "worth":
        made = quickly(made)
    typed = {overrides.split(word).key for word in given}
    made = [word for word in made if overrides.split(word).key not in typed - {"data"}]
    return [*given[:at], *made, *given[at + 1 :]]


def of_task(verb: str, path: Path, given: list[str], where: Path | None) -> list[str] | None:
    """The words for data of another task than classes, to be tuned for or told; None for any other data."""
    if verb == "finetune":
        return task_words(path, given)
    if verb == "predict" and where is not None:
        from ssl_zoo.transfer.model_file import task_of  # brings torch

        return model_words(path, task_of(where) or "")
    return None


def place_of_run(given: list[str]) -> Path | None:
    """The run or the model that a word names and that is there; None for none."""
    words = [overrides.split(word) for word in given]
    named = [
        Path(overrides.unquoted(one.value)) for one in words if one.key in ("run", "model") and one.value
    ]
    return next((path for path in named if any((path / name).is_file() for name in DESCRIBED)), None)


def quickly(made: list[str]) -> list[str]:
    """The words, with images read at `QUICK` pixels a side at most: minutes of a small machine are for many
    looks at small images, and not for a few at large ones."""
    sizes = [word.partition("=")[2] for word in made if word.startswith("data.image_size=")]
    if made[0] != "data=image_folder" or (sizes and int(sizes[0]) <= QUICK):
        return made
    note(f"images are read at {QUICK} pixels a side, for speed (data.image_size)")
    return [*(word for word in made if not word.startswith("data.image_size=")), f"data.image_size={QUICK}"]


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


class Lies(NamedTuple):
    """What lies at a path.

    Attributes:
        path: of it all.
        found: every file.
        parts: split -> where it lies.
        whole: whether all is read, and none of it is held out.
        streams: whether images are read where they lie, each when it is wanted.
        of_run: whether a run or a model says how they are read.
    """

    path: Path
    found: list[Path]
    parts: dict[str, Path]
    whole: bool
    streams: bool
    of_run: bool = False

    def of(self, kind: str) -> list[Path]:
        """The files of a kind."""
        return [one for one in self.found if kind_of(one) == kind]


class Read(NamedTuple):
    """How it is read: the group, words besides the sources, what is said of it, and split -> source."""

    group: str
    words: list[str]
    said: str
    sources: dict[str, Any]


def spelt(verb: str, path: Path, of_run: bool = False, named: bool = False) -> list[str]:
    """The words that say what lies at a path, which a note tells the user as well.

    Args:
        of_run: whether a run or a model says how it is read.
        named: whether a file of names says which split each sample is of.

    Raises:
        ConfigError: nothing there can be read, or several kinds can, or a split holds no table.
    """
    whole, found = verb in WHOLE, files(path)
    parts = {"train": path} if whole else splits(path)
    there = Lies(path, found, parts, whole, whole or verb == "look", of_run)
    if listing := labels_of_images(there):
        there = there._replace(found=[listing], parts={"train": listing})
    kind, left = main_kind(there)
    read = {"images": images_at, "shards": shards_at, "tables": tables_at, "texts": texts_at}[kind](there)
    given = [f", {split} from {part.name}" for split, part in there.parts.items() if len(there.parts) > 1]
    return told(verb, str(path), path.absolute().name, read, "".join(given) + left, named)


def of_hub(verb: str, name: str, of_run: bool, named: bool) -> list[str]:
    """The words for a data set of the Hugging Face hub.

    Raises:
        ConfigError: see `own_hub.described`.
    """
    found = described(name, verb in WHOLE)
    words, said = [], found.said
    if found.side is not None and not of_run:
        words.append(f"data.image_size={found.side}")
        said += f", read at {found.side} pixels a side (data.image_size)"
    read = Read(found.group, words, said, {**found.sources})
    return told(verb, f"hf:{name}", Path(name.partition("@")[0]).name, read, "", named)


def told(verb: str, place: str, name: str, read: Read, more: str, named: bool) -> list[str]:
    """The words that read what lies at a place, and the splits that are carved off it; a note tells of them.

    Args:
        name: of the data set, if nobody gives another.
        more: what else is said.
        named: whether a file of names says which split each sample is of: then nothing is carved by chance.
    """
    whole, group, said = verb in WHOLE, read.group, read.said
    made = [f"data={group}", *(f"data.{split}={literal(one)}" for split, one in read.sources.items())]
    made += [*read.words, f"data.name={overrides.quote(name or 'root')}"]
    carves = group != "image_captions" and not named
    if carves and verb in CARVED and "validation" not in read.sources:
        said += "; a tenth is held out as validation (data.validation_fraction)"
    if carves and whole:
        made.append("data.validation_fraction=0.0")
    if carves and verb in ("evaluate", "worth") and "test" not in read.sources:
        made.append(f"data.test_fraction={HELD_OUT}")
        said += f"; a test split of {HELD_OUT} is carved (data.test_fraction)"
    note(f"data={place}: {said}{more} (data={group} data.train=...)")
    return made


def main_kind(there: Lies) -> tuple[str, str]:
    """The kind of the most files, and what is said of the few of other kinds.

    Raises:
        ConfigError: there are none that can be read, or many of several kinds.
    """
    counts = Counter(kind_of(one) for one in there.found)
    readable = {kind: counts[kind] for kind in ("images", "tables", "texts", "shards") if counts[kind]}
    if not readable:
        ends = Counter(one.suffix or one.name for one in there.found).most_common(5)
        seen = ", ".join(f"{n} {end}" for end, n in ends) or "nothing"
        raise ConfigError(
            f"data={there.path}: no images, texts or tables there (found: {seen}); looked for "
            + ", ".join(end for ends in kinds().values() for end in ends)
            + ", .tar"
        )
    most = max(readable, key=lambda kind: readable[kind])
    others = {kind: n for kind, n in readable.items() if kind != most}
    if sum(others.values()) * 10 > readable[most]:
        seen = " and ".join(f"{n} {kind}" for kind, n in readable.items())
        raise ConfigError(
            f"data={there.path} holds {seen}: name the folder or file of one kind, or say how it is read "
            "with data=image_folder or data=text_files and data.train=PATH"
        )
    return most, "".join(f"; {n} {kind} there are not read" for kind, n in others.items())


def images_at(there: Lies) -> Read:
    """Image files. Where no run says at which size they are read, small ones are read at about their own."""
    images, words = there.of("images"), ["data.unpack=false"] if there.streams else []
    said = f"{len(images)} images" if len(images) > 1 else "one image"
    if not there.of_run and (side := usual_side(images)) is not None:
        words.append(f"data.image_size={side}")
        said += f", read at {side} pixels a side (data.image_size)"
    return Read("image_folder", words, said, {**there.parts})


def usual_side(images: list[Path]) -> int | None:
    """The side at which they are read, by the headers of at most 50, evenly among them; None if large."""
    from PIL import Image

    sides = []
    for one in images[:: -(-len(images) // 50)]:
        with (
            contextlib.suppress(Exception),
            Image.open(one) as image,
        ):  # a damaged one is told of when it is read
            sides.append(min(image.size))
    return nearest_side(sides)


def shards_at(there: Lies) -> Read:
    """Shards of images. Of one that is packed no image can be read by itself."""
    shards = there.of("shards")
    packed = any(one.suffix in (".gz", ".tgz") for one in shards)
    words = ["data.unpack=false"] if there.streams and not packed else []
    sources = {split: str(part / "*.tar*") if part.is_dir() else part for split, part in there.parts.items()}
    return Read("image_folder", words, f"{len(shards)} shards" if len(shards) > 1 else "one shard", sources)


def tables_at(there: Lies) -> Read:
    """Tables, of texts, or of images and what they show.

    Raises:
        ConfigError: a split holds none, or several name images.
    """
    tables = {
        split: [one for one in there.of("tables") if part == one or part in one.parents]
        for split, part in there.parts.items()
    }
    if lacking := [there.parts[split] for split, inside in tables.items() if not inside]:
        raise ConfigError(
            f"data={there.path} holds tables, and {lacking[0]} holds none: add one, or say which are read "
            "with data=text_files data.train=PATH"
        )
    sources = {split: inside[0] if len(inside) == 1 else inside for split, inside in tables.items()}
    images = image_columns(tables["train"][0])
    if images is None:
        return Read("text_files", *columns(tables["train"][0], labels=not there.whole), sources)
    if any(isinstance(source, list) for source in sources.values()):
        raise ConfigError(f"data={there.path} holds several tables of images: name one of them")
    group, words, said, held = images
    if group == "image_folder" and there.streams and not held:
        words.append("data.unpack=false")
    return Read(group, words, said, sources)


def texts_at(there: Lies) -> Read:
    """Running text: classes of files, files that are documents, or documents parted by empty lines."""
    texts, parts = there.of("texts"), there.parts
    each = ["data.format.separator=file"]
    if parts["train"].is_dir() and (classes := class_folders(parts["train"])):
        sources = {split: {c: part / c for c in class_folders(part)} for split, part in parts.items()}
        said = f"{len(classes)} classes of text files, one document a file"
        return Read("text_files", each, said, sources)
    said = f"{len(texts)} text files" if len(texts) > 1 else "one text file"
    if len(texts) > 1 and sum(one.stat().st_size for one in texts) <= SHORT * len(texts):
        return Read("text_files", each, f"{said}, one document a file (data.format.separator)", {**parts})
    said += ", documents parted by empty lines (data.format.separator)"
    return Read("text_files", [], said, {**parts})


def labels_of_images(there: Lies) -> Path | None:
    """The one table in a folder of images that names them and their classes; None for none."""
    tables, path = there.of("tables"), there.path
    if not (path.is_dir() and len(tables) == 1 and tables[0].parent == path and len(there.of("images")) > 1):
        return None
    made = image_columns(tables[0])
    return tables[0] if made is not None and any(word.startswith("data.label=") for word in made[1]) else None


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
