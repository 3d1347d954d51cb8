"""The shapes of data of one's own, images, shards, tables or texts: how each is read, and what is said."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_files import (
    FASTA,
    PACKED,
    class_folders,
    kind_of,
    kinds,
    name_unpacked,
    nearest_side,
)
from ssl_zoo.compose.own_tables import Labels, columns, image_columns
from ssl_zoo.data.text_names import WHOLE

SHORT = 20_000  # bytes of a file, in the mean: shorter ones are a document each


class Lies(NamedTuple):
    """What lies at a path.

    Attributes:
        path: of it all.
        found: every file.
        parts: split -> where it lies.
        whole: whether all is read, and none of it is held out.
        streams: whether images are read where they lie, each when it is wanted.
        labels: whether labels are looked for; see `own_tables.columns`.
        typed: key -> value of words that say something of it already.
        of_run: whether a run or a model says how they are read.
    """

    path: Path
    found: list[Path]
    parts: dict[str, Path]
    whole: bool
    streams: bool
    labels: Labels
    typed: Mapping[str, str]
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
    left = [
        f"; {n} {kind} there are not read" if n > 1 else f"; one {kind[:-1]} there is not read"
        for kind, n in others.items()
    ]
    return most, "".join(left) + captions_beside(there, most)


def captions_beside(there: Lies, kind: str) -> str:
    """What is said of a table of captions in a folder of images, which only pairs have a use for."""
    tables = there.of("tables")
    if kind != "images" or len(tables) != 1:
        return ""
    made = None
    with contextlib.suppress(ConfigError):  # of a table that is not read nothing needs to be right
        made = image_columns(tables[0])
    captions = made is not None and made[0] == "image_captions"
    return f", which has captions: {overrides.shell(f'data={tables[0]}')} reads both" if captions else ""


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
    first = tables["train"][0]
    images = image_columns(first, there.typed)
    if images is None:
        return Read("text_files", *columns(first, there.labels, there.typed), sources)
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
    whole = sum(name_unpacked(one).endswith(WHOLE) for one in texts)
    if whole == len(texts):
        return Read("text_files", [], f"{said} of notes or code, one document a file", {**parts})
    if holds_sequences(texts):
        hint = "" if there.of_run or "tokenizer" in there.typed else "; tokenizer=characters reads symbols"
        return Read("text_files", [], f"{said} of FASTA, one sequence a document{hint}", {**parts})
    if len(texts) > 1 and sum(one.stat().st_size for one in texts) <= SHORT * len(texts):
        return Read("text_files", each, f"{said}, one document a file (data.format.separator)", {**parts})
    said += ", documents parted by empty lines (data.format.separator)"
    said += f"; files of notes and code ({whole}) are one document each" if whole else ""
    if "data.format.separator" not in there.typed and one_block(texts[0]):
        said += f"; {texts[0].name} begins without any: data.format.separator=line reads each line as one"
    return Read("text_files", [], said, {**parts})


def holds_sequences(files: list[Path]) -> bool:
    """Whether all files end as FASTA does, and the first of them begins so, if it is not packed."""
    if not all(name_unpacked(one).endswith(FASTA) for one in files):
        return False
    return files[0].suffix.lower() in PACKED or beginning(files[0]).lstrip().startswith(b">")


def beginning(file: Path) -> bytes:
    """The first megabyte of a file; nothing of one that cannot be read, which is told of where it is read."""
    try:
        with file.open("rb") as stream:
            return stream.read(1 << 20)
    except OSError:
        return b""


def one_block(file: Path) -> bool:
    """Whether a file of several lines begins with a megabyte, or all of it, that no empty line parts."""
    head = b"" if file.suffix.lower() in PACKED else beginning(file).replace(b"\r", b"").strip()
    return head.count(b"\n") >= 10 and b"\n\n" not in head


def labels_of_images(there: Lies) -> Path | None:
    """The one table in a folder of images that names them and their classes; None for none."""
    tables, path = there.of("tables"), there.path
    if not (path.is_dir() and len(tables) == 1 and tables[0].parent == path and len(there.of("images")) > 1):
        return None
    made = image_columns(tables[0])
    return tables[0] if made is not None and any(word.startswith("data.label=") for word in made[1]) else None
