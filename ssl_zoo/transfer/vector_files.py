"""Files of vectors: .npy with a .json beside it, .csv, and .parquet, written piece by piece.

Each says of every vector which file and row it is of, and its label. How the vectors were made stands in the
.json, in the metadata of .parquet, and of .csv in the names of its columns. A file is whole or absent.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from ssl_zoo.transfer.embed import Names
from ssl_zoo.transfer.whole import refuse_ending, whole

GROUP = 8192  # vectors of a row group of a .parquet file
ENDINGS = (".npy", ".csv", ".parquet")


class Writer(Protocol):
    """Takes vectors (n, D) float32 with their names, in order; `close` ends the file."""

    def add(self, names: Names, values: np.ndarray) -> None: ...

    def close(self) -> None: ...


class Vectors(NamedTuple):
    """Vectors in memory.

    Attributes:
        values: (N, D) float32.
        files: that each is of; "" where it has no name.
        rows: its number in that file, or among all; None where the file holds nothing else.
        labels: the name of the class of each, or None.
        about: how the vectors were made.
    """

    values: np.ndarray
    files: list[str]
    rows: list[int | None]
    labels: list[str] | None
    about: dict[str, Any]


class Gathered:
    """Keeps all vectors in memory."""

    def __init__(self):
        self.pieces: list[tuple[Names, np.ndarray]] = []

    def add(self, names: Names, values: np.ndarray) -> None:
        self.pieces.append((names, values))

    def close(self) -> None:
        """Nothing is left to do."""

    def vectors(self, about: Mapping[str, Any]) -> Vectors:
        """What was added, in order; `about` says how it was made."""
        labels = [label for names, _ in self.pieces for label in names.labels or ()]
        return Vectors(
            np.concatenate([values for _, values in self.pieces]),
            [file for names, _ in self.pieces for file in names.files],
            [row for names, _ in self.pieces for row in names.rows],
            labels or None,
            dict(about),
        )


class Npy:
    """The array (N, D) float32, and beside it a .json: `about`, and file, row and label of each vector."""

    def __init__(self, stream: BinaryIO, beside: Path, about: Mapping[str, Any]):
        self.stream, self.beside, self.about = stream, beside, about
        self.names = Names([], [], [])
        self.width = 0

    def add(self, names: Names, values: np.ndarray) -> None:
        if not self.width:
            self.width = values.shape[1]
            self._header(0)
        self.stream.write(np.ascontiguousarray(values, dtype="<f4").data)
        for all_of_them, some in zip(self.names, names, strict=True):
            assert all_of_them is not None
            all_of_them += some or []

    def _header(self, count: int) -> None:
        """(Re)write the start of the file, which NumPy pads so that the first axis can grow in place."""
        self.stream.seek(0)
        about = {"descr": "<f4", "fortran_order": False, "shape": (count, self.width)}
        np.lib.format.write_array_header_1_0(self.stream, about)

    def close(self) -> None:
        self._header(len(self.names.files))
        named: dict[str, Any] = {"about": dict(self.about), "file": self.names.files}
        named |= {"row": self.names.rows} if any(row is not None for row in self.names.rows) else {}
        named |= {"label": self.names.labels} if self.names.labels else {}
        self.beside.write_text(json.dumps(named, ensure_ascii=False), encoding="utf-8")


class Csv:
    """file, row and label where there are any, then a column for each number, with nine digits."""

    def __init__(self, stream: BinaryIO, about: Mapping[str, Any]):
        self.stream = TextIOWrapper(stream, "utf-8", newline="")
        self.writer, self.about = csv.writer(self.stream), about
        self.columns: list[str] = []

    def add(self, names: Names, values: np.ndarray) -> None:
        named = {"file": names.files, "row": names.rows, "label": names.labels or []}
        if not self.columns:
            numbered = any(row is not None for row in names.rows)
            self.columns = ["file", *["row"] * numbered, *["label"] * bool(names.labels)]
            start = self.about["columns"]
            self.writer.writerow([*self.columns, *(f"{start}_{i}" for i in range(values.shape[1]))])
        for i, row in enumerate(values.tolist()):
            self.writer.writerow([*(named[c][i] for c in self.columns), *(f"{value:.9g}" for value in row)])

    def close(self) -> None:
        self.stream.flush()
        self.stream.detach()  # whoever opened it closes it


class Parquet:
    """file, row, label (null where there is none) and `vector`, a list of D float32. `about` is the metadata
    "ssl_zoo" of the schema."""

    def __init__(self, stream: BinaryIO, about: Mapping[str, Any]):
        import pyarrow.parquet

        self.arrow, self.stream, self.about = pyarrow, stream, about
        self.writer: Any = None
        self.waiting: list[Any] = []

    def add(self, names: Names, values: np.ndarray) -> None:
        arrow = self.arrow
        labels = names.labels or [None] * len(names.files)
        named: dict[str, Any] = {
            "file": arrow.array(names.files, arrow.string()),
            "row": arrow.array(names.rows, arrow.int64()),
            "label": arrow.array(labels, arrow.string()),
            "vector": arrow.FixedSizeListArray.from_arrays(
                arrow.array(values.reshape(-1), arrow.float32()), values.shape[1]
            ),
        }
        table = arrow.table(named).replace_schema_metadata({"ssl_zoo": json.dumps(dict(self.about))})
        if self.writer is None:
            self.writer = arrow.parquet.ParquetWriter(self.stream, table.schema)
        self.waiting.append(table)
        if sum(map(len, self.waiting)) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(self.arrow.concat_tables(self.waiting))
            self.waiting = []

    def close(self) -> None:
        self._flush()
        if self.writer is not None:
            self.writer.close()


@contextmanager
def writing(out: Path, about: Mapping[str, Any]) -> Iterator[Writer]:
    """Within, vectors are written into a file that takes the place `out` at the end.

    Args:
        about: how the vectors were made, as values that `json.dump` takes; "columns" begins the names of the
            columns of a .csv.

    Raises:
        ValueError: see `whole.refuse_ending`.
    """
    refuse_ending(out, ENDINGS)
    ending = out.suffix.lower()
    beside = [out.with_suffix(".json")] if ending == ".npy" else []
    made: Writer
    with whole(out, *beside) as (part, *names), open(part, "wb") as stream:
        if ending == ".npy":
            made = Npy(stream, names[0], about)
        else:
            made = Csv(stream, about) if ending == ".csv" else Parquet(stream, about)
        try:
            yield made
        finally:
            made.close()
