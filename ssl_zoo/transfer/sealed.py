"""Test rows that can be read once, after every choice has been made."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from ssl_zoo.data.rows import DataError, Rows


class Sealed:
    """Rows that refuse to be read until `open`, which works once.

    `evaluate` seals the test rows while protocols choose on validation; whoever holds the sealed
    rows meanwhile cannot peek unnoticed.
    """

    def __init__(self, rows: Rows):
        self._rows = rows
        self.opened: str | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def open(self, reason: str) -> Rows:
        """The rows, once.

        Raises:
            DataError: they were opened before; the error tells what for.
        """
        if self.opened is not None:
            raise DataError(f"the test rows were already opened for {self.opened}: they are read once")
        self.opened = reason
        return self._rows

    def read(self, index: np.ndarray, epoch: int = 0) -> NoReturn:
        """Always refused: read what `open` returns."""
        raise DataError("the test rows are sealed: choose on validation, then score what `open` returns")

    @property
    def y(self) -> NoReturn:
        """Always refused: labels are part of the test."""
        raise DataError("the labels of the test rows are sealed: choose on validation")
