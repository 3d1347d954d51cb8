"""What kinds of files lie at a path of one's own, and which of them are splits and classes."""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from ssl_zoo.data.split_names import PARTS, split_of
from ssl_zoo.data.text_names import FASTA, RUNNING, WHOLE

PACKED = (".gz", ".xz", ".bz2", ".zst")  # as text_files.py unpacks
SHARDS = (".tar", ".tar.gz", ".tgz")
NOTES = ".json"  # a table if it is named, or if nothing else is there; else notes about what is
CONLL = (".conll", ".conll03", ".bio", ".iob", ".iob2")  # of words with tags
SIDES = (32, 48, 64, 96, 128, 160, 192, 224)  # pixels at which images are read


def nearest_side(shorter: Sequence[int]) -> int | None:
    """The side of `SIDES` that is nearest to the shorter side of most images; None where they are larger."""
    middle = statistics.median(shorter) if shorter else SIDES[-1]
    return None if middle >= SIDES[-1] else min(SIDES, key=lambda side: (abs(side - middle), -side))


@functools.cache
def kinds() -> dict[str, tuple[str, ...]]:
    """Suffixes by kind; of images, all that the decoder reads."""
    from ssl_zoo.data.image_decoding import suffixes

    return {
        "images": suffixes(),
        "tables": (".csv", ".tsv", ".jsonl", ".ndjson", NOTES, ".parquet"),
        "texts": (*RUNNING, *WHOLE, *FASTA),
    }


def kind_of(path: Path) -> str | None:
    """What a file holds, by its suffix: images, tables, texts or shards; None for any other file.

    A packed table or text is a table or text.
    """
    if path.name.lower().endswith(SHARDS):
        return "shards"
    name = name_unpacked(path)
    return next((kind for kind, ends in kinds().items() if name.endswith(ends)), None)


def name_unpacked(path: Path) -> str:
    """The name of a file in small letters, without the suffix of what packs it."""
    name = path.name.lower()
    return name.removesuffix(path.suffix.lower()) if path.suffix.lower() in PACKED else name


def files(path: Path) -> list[Path]:
    """All files at a path, sorted; hidden ones and hidden folders left out, links to folders not followed."""
    if not path.is_dir():
        return [path]
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def without_notes(found: list[Path]) -> list[Path]:
    """Files without .json files, if there are others that can be read: such as annotations of images."""
    others = [one for one in found if not name_unpacked(one).endswith(NOTES)]
    return others if any(kind_of(one) for one in others) else found


def splits(path: Path) -> dict[str, Path]:
    """Split -> where it lies: what is called train, validation and test, else all of it is train."""
    found: dict[str, Path] = {}
    for one in sorted(path.iterdir()) if path.is_dir() else ():
        stem = one.name.partition(".")[0].lower()
        split = split_of(stem)
        if split and (one.is_dir() or kind_of(one) or one.suffix.lower() in CONLL):
            found.setdefault(split, one)
    order = [split for split in PARTS if split in found]
    return {split: found[split] for split in order} if "train" in found else {"train": path}


def class_folders(path: Path) -> list[str]:
    """Names of the folders in a folder that holds no text itself."""
    inside = [one for one in sorted(path.iterdir()) if not one.name.startswith(".")]
    if any(one.is_file() and kind_of(one) == "texts" for one in inside):
        return []
    return [one.name for one in inside if one.is_dir() and any(kind_of(f) == "texts" for f in files(one))]
