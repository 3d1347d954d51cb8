"""What is told, written piece by piece into tables, CoNLL files and folders of masks, whole or absent."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from ssl_zoo.data.masks import write_mask
from ssl_zoo.transfer import predictions
from ssl_zoo.transfer.predictions import Jsonl, line
from ssl_zoo.transfer.tasks.masks import Segmented
from ssl_zoo.transfer.tasks.tags import Tagged
from ssl_zoo.transfer.whole import Adding


def flat(one: Any) -> dict[str, Any]:
    """The cells of a table: p(NAME) for each of the probabilities, and labels parted by semicolons."""
    cells: dict[str, Any] = {}
    for name, value in line(one).items():
        if isinstance(value, dict):
            cells |= {f"{name}({key})": number for key, number in value.items()}
        else:
            cells[name] = ";".join(value) if isinstance(value, list) else value
    return cells


class Csv:
    """A row of cells each; the columns are those of the first."""

    def __init__(self, stream: BinaryIO):
        self.stream = TextIOWrapper(stream, "utf-8", newline="")
        self.writer: csv.DictWriter[str] | None = None

    def add(self, some: Sequence[Any]) -> None:
        for cells in map(flat, some):
            if self.writer is None:
                self.writer = csv.DictWriter(self.stream, list(cells))
                self.writer.writeheader()
            self.writer.writerow(cells)

    def close(self) -> None:
        self.stream.flush()
        self.stream.detach()  # whoever opened it closes it


class Parquet(predictions.Parquet):
    """As Csv, but that labels are lists."""

    def add(self, some: Sequence[Any]) -> None:
        rows = [flat(one) | {k: v for k, v in line(one).items() if isinstance(v, list)} for one in some]
        table = self.arrow.Table.from_pylist(rows)
        if self.writer is None:
            named = {"labels": self.arrow.list_(self.arrow.string())}  # of rows without any, too
            fields = [self.arrow.field(one.name, named.get(one.name, one.type)) for one in table.schema]
            self.writer = self.arrow.parquet.ParquetWriter(self.stream, self.arrow.schema(fields))
        self.writer.write_table(table.cast(self.writer.schema))


class Conll:
    """A token, a tab and its tag on each line; a blank line ends a sentence."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream

    def add(self, some: Sequence[Tagged]) -> None:
        for one in some:
            lines = (f"{word}\t{tag}\n" for word, tag in zip(one.words, one.tags, strict=True))
            self.stream.write(("".join(lines) + "\n").encode())

    def close(self) -> None:
        """Nothing is left to do."""


class Folder:
    """A PNG for each image, under its name from the folder of all of them, and shares.csv beside them: file,
    mask, and the share of the pixels that each class has."""

    def __init__(self, folder: Path, root: Path, palette: Sequence[int]):
        self.folder, self.root, self.palette = folder, root, palette
        self.taken: set[str] = set()
        self.stream = open(folder / "shares.csv", "w", encoding="utf-8", newline="")  # noqa: SIM115
        self.writer = csv.writer(self.stream)

    def add(self, some: Sequence[Segmented]) -> None:
        for one in some:
            if not self.taken:
                self.writer.writerow(["file", "mask", *(f"share({name})" for name in one.shares)])
            place = Path(one.file)
            place = place.relative_to(self.root) if place.is_relative_to(self.root) else Path(place.name)
            name = place.with_suffix(".png").as_posix()
            number = 1
            while name in self.taken:
                number += 1
                name = place.with_name(f"{place.name}-{number}.png").as_posix()
            self.taken.add(name)
            write_mask(self.folder / name, one.mask, self.palette)
            self.writer.writerow([one.file, name, *one.shares.values()])

    def close(self) -> None:
        self.stream.close()


TABLES: Mapping[str, Callable[[BinaryIO], Adding]] = {".csv": Csv, ".jsonl": Jsonl, ".parquet": Parquet}
SENTENCES: Mapping[str, Callable[[BinaryIO], Adding]] = {".conll": Conll, ".jsonl": Jsonl}
