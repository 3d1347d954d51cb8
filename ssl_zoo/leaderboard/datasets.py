"""The data sets of a board: each built once, with a fingerprint of what it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.leaderboard.composer import Composer, Config
from ssl_zoo.transfer.measures import Data


class Datasets:
    """Data sets by their configuration, each built once, with a fingerprint of what they hold.

    Attributes:
        built, prints: the data sets and their fingerprints, by their configuration as JSON.
    """

    def __init__(self, composer: Composer):
        self.composer = composer
        self.built: dict[str, Data] = {}
        self.prints: dict[str, str] = {}

    def get(self, part: Config) -> Data:
        """The data set of a configuration. Building it reads nothing from the disk."""
        key = self._key(part)
        if key not in self.built:
            self.built[key] = self.composer.build(part)
        return self.built[key]

    def fingerprint(self, part: Config) -> str:
        """See the function `fingerprint`.

        Raises:
            DataError: the data are not there.
        """
        key = self._key(part)
        if key not in self.prints:
            self.prints[key] = fingerprint(self.get(part))
        return self.prints[key]

    def _key(self, part: Config) -> str:
        return json.dumps(self.composer.plain(part), sort_keys=True)


def fingerprint(data: Data) -> str:
    """A digest of what a data set holds: 12 hexadecimal digits.

    It covers the samples of all splits with their labels, captions or scores, and the unlabelled images that
    pretraining reads. The names of classes are no part of it.

    Raises:
        DataError: the data are not there, or damaged.
    """
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
        if isinstance(data, ImageCaptions):
            made.update(json.dumps(data.captions_by_image(split)).encode())
    if isinstance(data, ImageData) and data.unlabelled:
        made.update(b"pretrain" + data.rows("pretrain").fingerprint.encode())
    return made.hexdigest()


class AbsentDatasets(Datasets):
    """As `Datasets`, but data that are not on this machine have no fingerprint (None)."""

    def fingerprint(self, part: Config) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().fingerprint(part)
        except DataError:
            return None


def agree(recorded: Mapping[str, str], now: Mapping[str, str | None]) -> bool:
    """Whether the data are the same; those that are not on this machine (None) cannot be compared."""
    return all(now.get(name) in (None, value) for name, value in recorded.items())
