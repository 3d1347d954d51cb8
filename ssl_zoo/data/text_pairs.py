"""Pairs of sentences with a score of how alike they are (STS-B: Cer et al. 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_formats import Errors, table


class TextPairs:
    """Scored pairs of sentences.

    Args:
        name: what reports call it.
        train, validation, test: CSV files without a header: sentence, sentence, score. Any may be .gz, .xz.
        errors: "strict" or "replace", for bytes that are not UTF-8.
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
        return tuple(self._paths)

    def pairs(self, split: str) -> list[tuple[str, str]]:
        return [(first, second) for first, second, _ in self._read(split)]

    def scores(self, split: str) -> np.ndarray:
        """(N,) float64: how alike the sentences of each pair are; 0 to 5 in STS-B."""
        return np.array([score for _, _, score in self._read(split)])

    def _read(self, split: str) -> list[tuple[str, str, float]]:
        if split not in self._paths:
            raise DataError(f"{self.name} has no split {split}: it has {', '.join(self.splits())}")
        path, found = self._paths[split], []
        for number, fields, _ in table(path, self._errors):
            try:
                first, second, score = fields
                found.append((first, second, float(score)))
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number} is not sentence, sentence, score: {list(fields)}"
                ) from error
        if not found:
            raise DataError(f"{path} holds no pairs")
        return found
