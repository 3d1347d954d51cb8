"""Pairs of sentences with a score of how alike they are (STS-B: Cer et al. 2017)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_files import Errors
from ssl_zoo.data.text_tables import table, text_of


class TextPairs:
    """Scored pairs of sentences.

    Args:
        name: what reports call it.
        train, validation, test: CSV files without a header: sentence, sentence, score. They may be packed.
        errors: "strict" or "replace", for bytes that are not UTF-8.

    Raises:
        DataError: later, when a split is read: it is not there, its file has a fault, a row is not sentence,
            sentence, score, or there is no row.
    """

    modality = "text"

    def __init__(
        self,
        name: str,
        train: str | Path,
        validation: str | Path | None = None,
        test: str | Path | None = None,
        *,
        errors: Errors = "strict",
    ):
        given = {"train": train, "validation": validation, "test": test}
        self.name = name
        self._errors: Errors = errors
        self._paths = {split: Path(path).expanduser() for split, path in given.items() if path is not None}

    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are."""
        return tuple(self._paths)

    def pairs(self, split: str) -> list[tuple[str, str]]:
        """The two sentences of each pair."""
        return [(first, second) for first, second, _ in self._read(split)]

    def scores(self, split: str) -> np.ndarray:
        """(N,) float64: how alike the sentences of each pair are; 0 to 5 in STS-B."""
        return np.array([score for _, _, score in self._read(split)])

    def _read(self, split: str) -> list[tuple[str, str, float]]:
        if split not in self._paths:
            raise DataError(f"{self.name} has no split {split}: it has {', '.join(self.splits())}")
        path, found = self._paths[split], []
        for number, fields, _ in table(path, self._errors):
            where = f"{path}, line {number}"
            cells = fields if isinstance(fields, list) else []
            try:
                first, second, score = cells
                value = float(score)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{where} is not sentence, sentence, score: {fields if cells else 'a JSON object'}"
                ) from error
            if not math.isfinite(value):
                raise DataError(f"{where} has the score {score}, which is no number to compare with")
            one, two = (text_of(text, where, self._errors) for text in (first, second))
            if not (one and one.strip() and two and two.strip()):
                raise DataError(f"{where} lacks a sentence")
            found.append((one, two, value))
        if not found:
            raise DataError(f"{path} holds no pairs")
        return found
