"""Pairs of sentences with a score of how alike they are (STS-B: Cer et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.splits import carve_parts
from ssl_zoo.data.text_files import Errors
from ssl_zoo.data.text_tables import Row, columns_of, field, named, table, text_of, usual_delimiter

# Usual names of the columns of a table of pairs.
FIRST = ("sentence1", "text1", "sentence_a", "text_a", "question1", "premise", "first", "a")
SECOND = ("sentence2", "text2", "sentence_b", "text_b", "question2", "hypothesis", "second", "b")
SCORE = ("score", "similarity", "similarity_score", "relatedness", "label", "is_duplicate")


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
            found.append(scored(first, second, value, where, self._errors))
        if not found:
            raise DataError(f"{path} holds no pairs")
        return found


def scored(first: object, second: object, score: float, where: str, errors: Errors) -> tuple[str, str, float]:
    """A pair and its score.

    Raises:
        DataError: a sentence is not there or no text, or the score is not finite.
    """
    if not math.isfinite(score):
        raise DataError(f"{where} has the score {score}, which is no number to compare with")
    one, two = (text_of(text, where, errors) for text in (first, second))
    if not (one and one.strip() and two and two.strip()):
        raise DataError(f"{where} lacks a sentence")
    return one, two, score


class PairTable(TextPairs):
    """Scored pairs in a table of one's own, whose first row may name its columns.

    Args:
        name: what reports call it.
        train, validation, test: CSV, TSV, JSON or Parquet files, which may be packed. A split that is not
            given is carved from train.
        columns: names, or numbers from 0, of the two sentences and of the score; None: usual names (see
            `FIRST`, `SECOND` and `SCORE`), or the three columns of a table without names.
        validation_fraction, test_fraction: of the pairs of train, where no file is given.
        split_seed: decides alone which pairs are carved.
        errors: "strict" or "replace", for bytes that are not UTF-8.

    Raises:
        DataError: columns that are not three, or fractions that leave no pairs; later, when a split is
            read, as `TextPairs`.
    """

    def __init__(
        self,
        name: str,
        train: str | Path,
        validation: str | Path | None = None,
        test: str | Path | None = None,
        *,
        columns: Sequence[int | str] | None = None,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        errors: Errors = "strict",
    ):
        super().__init__(name, train, validation, test, errors=errors)
        if columns is not None and len(columns) != 3:
            raise DataError(f"columns are two sentences and a score, three in all, and not {list(columns)}")
        shares = {"validation": validation_fraction, "test": test_fraction}
        self._columns, self._seed = columns, split_seed
        self._carved = {split: f for split, f in shares.items() if f and split not in self._paths}
        if not (all(f >= 0 for f in shares.values()) and sum(self._carved.values()) < 1):
            raise DataError(
                f"{name}: validation_fraction={validation_fraction} and test_fraction={test_fraction} leave "
                "no pairs to train on: they are not below 0, and sum to less than 1"
            )

    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are."""
        return tuple(s for s in ("train", "validation", "test") if s in self._paths or s in self._carved)

    def _read(self, split: str) -> list[tuple[str, str, float]]:
        if split not in self.splits():
            raise DataError(f"{self.name} has no split {split}: it has {', '.join(self.splits())}")
        if split != "train" and split in self._paths:
            return self._all(split)
        found = self._all("train")
        parts = carve_parts(np.zeros(len(found), np.int64), self._carved, self._seed, ("pairs",))
        return [found[i] for i in parts[split]]

    def _all(self, split: str) -> list[tuple[str, str, float]]:
        path, found = self._paths[split], []
        rows = list(table(path, self._errors, usual_delimiter(path)))
        columns, rows = self._found(path, rows)
        for row in rows:
            where = f"{path}, line {row.number}"
            one, two, score = (field(row, column, path) for column in columns)
            try:
                value = float(score)  # pyright: ignore[reportArgumentType]
            except (TypeError, ValueError) as error:
                raise DataError(f"{where}: the score {score!r} is no number to compare with") from error
            found.append(scored(one, two, value, where, self._errors))
        if not found:
            raise DataError(f"{path} holds no pairs")
        return found

    def _found(self, path: Path, rows: list[Row]) -> tuple[Sequence[int | str], list[Row]]:
        """The three columns, and the rows under their names."""
        if not rows:
            return (0, 1, 2), rows
        first = rows[0].fields
        cells = list(map(str, first)) if isinstance(first, list) else columns_of(rows[0])
        usual = [named(cells, wanted) for wanted in (FIRST, SECOND, SCORE)]
        columns = self._columns or (usual if None not in usual else None)
        if not isinstance(first, list):
            if columns is None:
                raise DataError(f"{path} has the columns {cells}: say which with data.columns=[A,B,SCORE]")
            return columns, rows
        if columns is not None and any(isinstance(column, str) for column in columns):
            names = [cell.strip() for cell in cells]
            if lacking := [column for column in columns if isinstance(column, str) and column not in names]:
                raise DataError(f"{path} has no column {lacking[0]!r}; its first row names {names}")
            numbers = [names.index(one) if isinstance(one, str) else one for one in columns]
            return numbers, rows[1:]
        if columns is None and len(cells) != 3:
            raise DataError(
                f"{path} has {len(cells)} columns ({', '.join(map(repr, cells))}), of which two are "
                "sentences and one is their score: data.columns=[A,B,SCORE] says which, by name or number"
            )
        return columns or (0, 1, 2), rows
