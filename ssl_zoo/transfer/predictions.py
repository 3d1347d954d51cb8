"""Files of predictions: .csv, .jsonl and .parquet, written piece by piece.

A line has file, row and label where there are any, the likeliest class with its probability, and the
probability of every class. A file is whole or absent.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from io import TextIOWrapper
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ssl_zoo.transfer.embed import Names
from ssl_zoo.transfer.whole import Adding


class Prediction(NamedTuple):
    """file, row, label: as of `embed.Names`, None for none. name: the likeliest class. probability: of it.
    probabilities: of every class, by name."""

    file: str
    row: int | None
    label: str | None
    name: str
    probability: float
    probabilities: dict[str, float]

    def text(self) -> str:
        """A line for people."""
        where = self.file if self.row is None else f"{self.file} row {self.row:,}".strip()
        told = "" if self.label is None or self.label == self.name else f"  (labelled {self.label})"
        return f"{where}  {self.name}  {self.probability:.2f}{told}"

    def plain(self) -> dict[str, Any]:
        """The keys of a JSON object, beside file and row."""
        label = {} if self.label is None else {"label": self.label}
        return label | {
            "class": self.name,
            "probability": self.probability,
            "probabilities": self.probabilities,
        }


def predicted(names: Names, shares: np.ndarray, classes: tuple[str, ...]) -> list[Prediction]:
    """The predictions of a piece.

    Args:
        shares: (n, C) probabilities.
    """
    found = []
    for i, best in enumerate(shares.argmax(1).tolist()):
        row = [float(f"{share:.6g}") for share in shares[i].tolist()]
        label = None if names.labels is None else names.labels[i]
        every = dict(zip(classes, row, strict=True))
        found.append(Prediction(names.files[i], names.rows[i], label, classes[best], row[best], every))
    return found


class Csv:
    """file, row, label, class, probability, and p(NAME) for each class."""

    def __init__(self, stream: BinaryIO):
        self.stream = TextIOWrapper(stream, "utf-8", newline="")
        self.writer = csv.writer(self.stream)
        self.columns: list[str] = []

    def add(self, some: list[Prediction]) -> None:
        if not self.columns:
            self.columns = ["file"]
            self.columns += ["row"] * any(one.row is not None for one in some)
            self.columns += ["label"] * any(one.label is not None for one in some)
            every = (f"p({name})" for name in some[0].probabilities)
            self.writer.writerow([*self.columns, "class", "probability", *every])
        for one in some:
            front = [getattr(one, column) for column in self.columns]
            self.writer.writerow([*front, one.name, one.probability, *one.probabilities.values()])

    def close(self) -> None:
        self.stream.flush()
        self.stream.detach()  # whoever opened it closes it


def line(one: Any) -> dict[str, Any]:
    """The JSON object of what is told of a row."""
    return {"file": one.file} | ({} if one.row is None else {"row": one.row}) | one.plain()


class Jsonl:
    """An object a line, of whatever has file, row and `plain()`."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream

    def add(self, some: Sequence[Any]) -> None:
        for one in some:
            self.stream.write(json.dumps(line(one), ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Nothing is left to do."""


class Parquet:
    """As Csv, with null where there is no row or label."""

    def __init__(self, stream: BinaryIO):
        import pyarrow.parquet

        self.arrow, self.stream = pyarrow, stream
        self.writer: Any = None

    def add(self, some: list[Prediction]) -> None:
        arrow = self.arrow
        named: dict[str, Any] = {
            "file": arrow.array([one.file for one in some], arrow.string()),
            "row": arrow.array([one.row for one in some], arrow.int64()),
            "label": arrow.array([one.label for one in some], arrow.string()),
            "class": arrow.array([one.name for one in some], arrow.string()),
            "probability": arrow.array([one.probability for one in some], arrow.float32()),
        }
        for name in some[0].probabilities:
            named[f"p({name})"] = arrow.array([one.probabilities[name] for one in some], arrow.float32())
        table = arrow.table(named)
        if self.writer is None:
            self.writer = arrow.parquet.ParquetWriter(self.stream, table.schema)
        self.writer.write_table(table)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


KINDS: Mapping[str, Callable[[BinaryIO], Adding]] = {".csv": Csv, ".jsonl": Jsonl, ".parquet": Parquet}
