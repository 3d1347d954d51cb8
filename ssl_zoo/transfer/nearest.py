"""The samples nearest to a query by cosine similarity, found while vectors go by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssl_zoo.data.rows import Rows, Subset
from ssl_zoo.transfer.embed import Names


class Near(NamedTuple):
    """cosine: between the vectors of query and sample. file, row, label: as of `Names`, "" and None for none.
    rows: the sample, as the only row."""

    cosine: float
    file: str
    row: int | None
    label: str | None
    rows: Rows

    @property
    def title(self) -> str:
        """What a person calls it: the file, the number in it, and the class."""
        number = "" if self.row is None else f" row {self.row:,}" if self.file else f"row {self.row:,}"
        return f"{self.file}{number}" + ("" if self.label is None else f" ({self.label})")


class Nearest:
    """Keeps the `count` samples nearest to a query (D,), nearest first; of equals the earlier one.

    Attributes:
        found: what was nearest so far.
    """

    def __init__(self, query: np.ndarray, count: int):
        self.query, self.count = query / max(float(np.linalg.norm(query)), 1e-12), count
        self.found: list[Near] = []

    def add(self, names: Names, rows: Rows, values: np.ndarray) -> None:
        """Look at a piece: its vectors (n, D) with their names and rows."""
        lengths = np.maximum(np.linalg.norm(values, axis=1), 1e-12)
        cosines = values @ self.query / lengths
        for i in np.argsort(-cosines, kind="stable")[: self.count].tolist():
            label = None if names.labels is None else names.labels[i]
            one = Subset(rows, np.array([i]))
            self.found.append(Near(float(cosines[i]), names.files[i], names.rows[i], label, one))
        self.found = sorted(self.found, key=lambda near: -near.cosine)[: self.count]
