"""Images with captions of one's own: tables whose rows name an image file and a text.

Rows of one image are one image with several captions, of which training draws one. So no image is both
trained on and validated on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_zoo.backbones._base import Modality
from ssl_zoo.data.image_decoding import MAX_PIXELS
from ssl_zoo.data.image_encoded import EncodedRows
from ssl_zoo.data.image_listing import list_folder
from ssl_zoo.data.image_samples import Sample, Samples, Source
from ssl_zoo.data.image_store import ImageRows
from ssl_zoo.data.image_tables import IMAGES, stamp
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.pairs import DrawnRows, PairRows
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.split_names import PARTS
from ssl_zoo.data.text_files import Errors
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.data.text_tables import (
    check_delimiter,
    columns_of,
    field,
    named,
    table,
    text_of,
    usual_delimiter,
)
from ssl_zoo.data.text_tally import Tally
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.messages import note

Column = int | str
# Names of columns, in the order in which they are looked for.
CAPTIONS = ("caption", "captions", "text", "title", "alt_text", "alt", "description", "sentence", "label")


class Table(NamedTuple):
    """The images of a table in the order of their first rows. root: where their names start from. lines: of
    that row, from 1. captions: of each image, one or more. about: size in bytes and time of each file."""

    path: Path
    root: Path
    names: list[str]
    lines: list[int]
    captions: list[list[str]]
    about: list[tuple[int, int]]


class ImageCaptions:
    """Images with captions, from tables (see `captions.Captioned`). Building it reads nothing.

    Args:
        name: what logs and errors call it.
        train, validation, test: CSV, TSV or JSONL tables, which may be packed; the last two are carved from
            the images of `train` where they are None and their fraction is above 0.
        image, caption: the columns of the image's path and of the text, by name or by number from 0; None
            looks for usual names, and says what it took.
        delimiter: of cells; None is a tab for .tsv, else a comma.
        root: folder that paths in the table start from; None is the table's own.
        image_size: pixels a side that every image gets.
        validation_fraction, test_fraction, split_seed, unpack, max_pixels, cache: see `ImageData`.
        errors: "strict" or "replace", for bytes that are not UTF-8.

    Raises:
        DataError: see `ImageData`; later, an image is damaged, or a table has no pair.

    Rows without a caption or without their image file are left out, counted, and said on stderr.
    """

    modality: Modality = "image"
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        train: str,
        validation: str | None = None,
        test: str | None = None,
        *,
        image: Column | None = None,
        caption: Column | None = None,
        delimiter: str | None = None,
        root: str | None = None,
        image_size: int = 224,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        unpack: bool = True,
        max_pixels: int = MAX_PIXELS,
        errors: Errors = "strict",
        cache: str | None = None,
    ):
        self.name, self.image_size = name, image_size
        self._paths = dict(zip(PARTS, (train, validation, test), strict=True))
        self._columns, self._delimiter, self._root = (image, caption), delimiter, root
        if delimiter is not None:
            check_delimiter(delimiter)
        self._errors: Errors = errors
        self._options = {
            "image_size": image_size,
            "validation_fraction": validation_fraction,
            "test_fraction": test_fraction,
            "split_seed": split_seed,
            "unpack": unpack,
            "max_pixels": max_pixels,
            "cache": cache,
        }
        # Refuses at once what cannot be.
        self._splits = ImageData(name, train, validation, test, **self._options).splits()

    def splits(self) -> tuple[str, ...]:
        return self._splits

    def rows(self, split: str) -> ImageRows | EncodedRows:
        """The images alone of "train", "validation", "test" or "pretrain", which is train."""
        return self._images.rows(split)

    def captions(self, split: str) -> list[str]:
        return list(chain.from_iterable(self.captions_by_image(split)))

    def captions_by_image(self, split: str) -> list[list[str]]:
        """The captions of each image of a split, in the order of `rows(split)`."""
        return self._captions(split, self.rows(split).index)

    def pairs(self, split: str, tokenizer: Tokenizer, length: int, seed: int = 0) -> PairRows:
        images = self.rows(split)
        captions = self._captions(split, images.index)
        counts = np.array([len(texts) for texts in captions], np.int64)
        texts = DocumentRows(chain.from_iterable(captions), tokenizer, length)
        return PairRows(images, DrawnRows(texts, counts.cumsum() - counts, counts, seed))

    def _captions(self, split: str, index: np.ndarray) -> list[list[str]]:
        """Of the images `index` of the table that the split is taken from."""
        found = self._tables.get(split) or self._tables["train"]
        return [found.captions[i] for i in index.tolist()]

    @cached_property
    def _tables(self) -> dict[str, Table]:
        return {split: self._read(Path(path)) for split, path in self._paths.items() if path is not None}

    @cached_property
    def _images(self) -> ImageData:
        train, validation, test = (
            source(self._tables[split]) if split in self._tables else None for split in PARTS
        )
        assert train is not None
        return ImageData(self.name, train, validation, test, **self._options)

    def _read(self, path: Path) -> Table:
        path, tally = path.expanduser(), Tally()
        root = path.parent if self._root is None else Path(self._root).expanduser()
        delimiter = self._delimiter or usual_delimiter(path)
        header = not all(isinstance(column, int) for column in self._columns)
        columns: tuple[Column, Column] | None = None
        found = Table(path, root, [], [], [], [])
        numbers: dict[Path, int] = {}  # by the whole path, for which a.png and ./a.png are one
        for row in table(path, self._errors, delimiter, header, tally=tally):
            if columns is None:
                names = columns_of(row)
                columns = self._chosen(names, path)
            where = f"{path}, line {row.number}"
            name, text = (
                text_of(field(row, column, path), f"{where}, {column!r}", self._errors) for column in columns
            )
            if not name or text is None or not text.strip():
                tally.add("row(s) left out that lack an image or a caption", where)
                continue
            file = root / name
            if file not in numbers:
                about = stamp(file)
                if about is None:
                    tally.add(f"row(s) left out whose image is not in {root}", f"{where}: {name[:200]!r}")
                    continue
                numbers[file] = len(found.names)
                found.names.append(name)
                found.lines.append(row.number)
                found.captions.append([])
                found.about.append(about)
            found.captions[numbers[file]].append(text)
        said = tally.lines()
        if not found.names:
            raise DataError(
                f"{path} holds no image with a caption"
                + (f": {'; '.join(said)}; data.root=FOLDER says where paths start" if said else "")
            )
        for line in said:
            note(f"{path}: {line}")
        return found

    def _chosen(self, names: Sequence[str], path: Path) -> tuple[Column, Column]:
        """The columns that are read. Says which were guessed."""
        image, caption = self._columns
        if image is not None and caption is not None:
            return image, caption
        image = named(names, IMAGES) if image is None else image
        if caption is None:
            caption = named([name for i, name in enumerate(names) if image not in (i, name)], CAPTIONS)
        if image is None or caption is None:
            lacks = "image files" if image is None else "captions"
            raise DataError(
                f"{path} has no column of {lacks} by a usual name; its columns are {', '.join(names)}: give "
                "data.image=COLUMN and data.caption=COLUMN (a number counts from 0)"
            )
        note(f"{path}: image is column {image!r}, caption {caption!r} (data.image=, data.caption=)")
        return image, caption


def source(found: Table) -> Source:
    """The images of a table, as `ImageData` reads them; errors name the line."""
    spec, root, sizes = str(found.path), found.root, [size for size, _ in found.about]

    def stream() -> Iterator[Sample]:
        for name, line in zip(found.names, found.lines, strict=True):
            yield Sample(f"{spec}, line {line}: {root / name}", root / name, -1)

    return Source(
        spec,
        ("table", *((name, *about) for name, about in zip(found.names, found.about, strict=True))),
        lambda _: Samples(stream(), (), len(sizes)),
        lambda: list_folder(spec, root, found.names, sizes, [-1] * len(sizes), ()),
        len(sizes),
    )
