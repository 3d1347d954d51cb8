"""data=PATH: a folder or file of one's own, read as what lies there; what is guessed is said, with its keys.

Images make data=image_folder, texts and tables data=text_files. A folder with train, validation and test in
it gives the splits; class folders give labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_addresses import at_address, is_elsewhere
from ssl_zoo.compose.own_files import files, kind_of, splits, without_notes
from ssl_zoo.compose.own_hub import described, name_of
from ssl_zoo.compose.own_shapes import (
    Lies,
    Read,
    images_at,
    labels_of_images,
    main_kind,
    shards_at,
    tables_at,
    texts_at,
)
from ssl_zoo.compose.own_tables import Labels
from ssl_zoo.compose.own_tasks import model_words, names_splits, task_words
from ssl_zoo.messages import note

QUICK = 64  # pixels a side at most, where minutes count
HELD_OUT = 0.2  # of the labelled rows, where an evaluation is given no test split
PARTED = "blank_line"  # what parts documents where nothing else is said
CARVED = ("pretrain", "finetune", "evaluate", "look", "worth")  # verbs that read a validation split
LABELS: dict[str, Labels] = {"embed": "none", "predict": "if all have one", "pretrain": "if all have one"}
Typed = Mapping[str, str]
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
    if value not in choices and is_elsewhere(value):
        made, where = at_address(verb, value, given), place_of_run(given)
        return in_place(given, at, made if where is None else made + inherited(where, made))
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
    named = names_splits(given)
    typed = {one.key: one.value for one in map(overrides.split, given) if one.value is not None}
    if named and verb in WHOLE:
        raise ConfigError(f"{verb} reads all that lies at {value}: leave data.splits out")
    of_pairs = "protocol=completion" in given and verb == "finetune"
    of_scores = "protocol=similarity" in given and verb == "evaluate"
    if hub is not None:
        made = of_hub(verb, hub, typed, where is not None, named)
    elif of_pairs:
        made = pairs(path)
    elif of_scores:
        made = scored_pairs(verb, path, typed)
    else:
        made = of_task(verb, path, given, where) or spelt(verb, path, typed, where is not None, named)
    if where is not None and (hub is None or made[0] == "data=image_folder"):
        made += inherited(where, made)
    if verb == "worth":
        made = quickly(made)
    return in_place(given, at, made)


def in_place(given: list[str], at: int, made: list[str]) -> list[str]:
    """The words with others in the place of number `at`, but for those whose keys are given besides."""
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
    if chosen in ("image_folder", "image_captions", "image_stream") and isinstance(
        size := data.get("image_size"), int
    ):
        note(f"images are read at {size} pixels a side, as those of {run} (data.image_size)")
        return [f"data.image_size={size}"]
    form = data.get("format") or {}
    guessed = any(overrides.split(word).key.startswith(("data.format", "~data.format")) for word in made)
    if chosen == "text_files" and not guessed and (separator := form.get("separator", PARTED)) != PARTED:
        note(f"documents are parted as those of {run} (data.format.separator={separator})")
        return [f"data.format.separator={separator}"]
    return []


def spelt(verb: str, path: Path, typed: Typed, of_run: bool = False, named: bool = False) -> list[str]:
    """The words that say what lies at a path, which a note tells the user as well.

    Args:
        typed: key -> value of the words that were typed, of which those that say something of the data are
            repeated.
        of_run: whether a run or a model says how it is read.
        named: whether a file of names says which split each sample is of.

    Raises:
        ConfigError: nothing there can be read, or several kinds can, or a split holds no table.
    """
    whole, found = verb in WHOLE, without_notes(files(path))
    parts = {"train": path} if whole else splits(path)
    there = Lies(path, found, parts, whole, whole or verb == "look", LABELS.get(verb, "any"), typed, of_run)
    if listing := labels_of_images(there):
        there = there._replace(found=[listing], parts={"train": listing})
    kind, left = main_kind(there)
    read = {"images": images_at, "shards": shards_at, "tables": tables_at, "texts": texts_at}[kind](there)
    given = [f", {split} from {part.name}" for split, part in there.parts.items() if len(there.parts) > 1]
    return told(verb, str(path), path.absolute().name, read, "".join(given) + left, named, typed)


def of_hub(verb: str, name: str, typed: Typed, of_run: bool, named: bool) -> list[str]:
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
    return told(verb, f"hf:{name}", Path(name.partition("@")[0]).name, read, "", named, typed)


def told(verb: str, place: str, name: str, read: Read, more: str, named: bool, typed: Typed) -> list[str]:
    """The words that read what lies at a place, and the splits that are carved off it; a note tells of them.

    Args:
        name: of the data set, if nobody gives another.
        more: what else is said.
        named: whether a file of names says which split each sample is of: then nothing is carved by chance.
        typed: key -> value of words that say it already.
    """
    whole, group, said = verb in WHOLE, read.group, read.said
    made = [f"data={group}", *(f"data.{split}={literal(one)}" for split, one in read.sources.items())]
    made += [*read.words, f"data.name={overrides.quote(name or 'root')}"]
    carves = group != "image_captions" and not named
    tenth = "validation" not in read.sources and "data.validation_fraction" not in typed
    if carves and verb in CARVED and tenth:
        said += "; a tenth is held out as validation (data.validation_fraction)"
    if carves and whole:
        made.append("data.validation_fraction=0.0")
    if carves and verb in ("evaluate", "worth") and "test" not in read.sources:
        made.append(f"data.test_fraction={HELD_OUT}")
        share = typed.get("data.test_fraction", HELD_OUT)
        said += f"; a test split of {share} is carved (data.test_fraction)"
    note(f"data={place}: {said}{more} (data={group} data.train=...)")
    return made


def pairs(path: Path) -> list[str]:
    """The words for a table of prompts and completions, whose columns are looked up when it is read."""
    parts = tables_alone(path, "prompts with their completions")
    note(f"data={path}: pairs of prompts and completions (prompt=, completion= name the columns)")
    made = [f"data.{split}={literal(part)}" for split, part in parts.items()]
    return ["data=text_files", *made, f"data.name={overrides.quote(path.absolute().name or 'root')}"]


def scored_pairs(verb: str, path: Path, typed: Typed) -> list[str]:
    """The words for a table of two sentences and how alike they are, whose columns are looked up when it is
    read."""
    parts = tables_alone(path, "pairs of sentences with their scores")
    read = Read("text_pairs", [], "pairs of sentences and their scores (data.columns=[A,B,SCORE])", {**parts})
    return told(verb, str(path), path.absolute().name, read, "", False, typed)


def tables_alone(path: Path, what: str) -> dict[str, Path]:
    """Split -> its table.

    Raises:
        ConfigError: something else lies there.
    """
    parts = splits(path)
    if any(kind_of(part) != "tables" or part.is_dir() for part in parts.values()):
        raise ConfigError(
            f"data={path}: {what} are a .jsonl, .json, .csv or .tsv file, or a folder with "
            "a train and a validation file of that kind"
        )
    return parts


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
