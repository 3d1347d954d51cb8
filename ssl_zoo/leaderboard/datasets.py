"""The data sets of a board: each built once, with a fingerprint of what it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.leaderboard.composer import Composer, Config
from ssl_zoo.transfer.measures import Data


class Datasets:
    """Data sets by their configuration, each built once, with a fingerprint of what they hold."""

    def __init__(self, composer: Composer):
        self.composer = composer
        self.built: dict[str, Data] = {}
        self.prints: dict[str, str] = {}

    def get(self, part: Config) -> Data:
        key = json.dumps(self.composer.plain(part), sort_keys=True)
        if key not in self.built:
            self.built[key] = self.composer.build(part)
        return self.built[key]

    def fingerprint(self, part: Config) -> str:
        """Of the samples and labels of all splits: 12 hexadecimal digits.

        Raises:
            DataError: the data are not there.
        """
        key = json.dumps(self.composer.plain(part), sort_keys=True)
        if key not in self.prints:
            self.prints[key] = fingerprint(self.get(part))
        return self.prints[key]


def fingerprint(data: Data) -> str:
    made = hashlib.blake2b(digest_size=6)
    for split in data.splits():
        made.update(split.encode())
        if isinstance(data, TextPairs):
            made.update(json.dumps([data.pairs(split), data.scores(split).tolist()]).encode())
        elif isinstance(data, TextData):
            for text in data.texts(split):
                made.update(text.encode() + b"\0")
            labels = data.labels(split)
            made.update(b"" if labels is None else np.ascontiguousarray(labels, "<i8").tobytes())
        else:
            made.update(data.rows(split).fingerprint.encode())
    return made.hexdigest()


class AbsentDatasets(Datasets):
    """As `Datasets`; data that are not on this machine have no fingerprint, and are not compared."""

    def fingerprint(self, part: Config) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().fingerprint(part)
        except DataError:
            return None


def agree(recorded: Mapping[str, str], now: Mapping[str, str | None]) -> bool:
    """Whether the data are the same; those that are not on this machine (None) cannot be compared."""
    return all(now.get(name) in (None, value) for name, value in recorded.items())
