"""Measures: protocols that score a backbone by something else than predicted classes.

A measure works in two acts. `begin` chooses and fits what there is to choose and fit, on data whose test
split is sealed; what it returns is then handed the data with the test split, and scores it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, runtime_checkable
from typing import Protocol as Interface

import torch

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.own import OwnData
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.transfer.labels import drawable
from ssl_zoo.transfer.report import Result

Images = ImageData | ImageCaptions | OwnData
Data = Images | TextData | TextPairs
# All methods of `Data` that read one split, by its name: what is sealed where that is the test split.
READERS = (
    *("rows", "labelled", "samples", "texts", "documents", "labels", "pairs", "scores", "captions"),
    "captions_by_image",
)


@dataclass(frozen=True)
class Subject:
    """What is measured, and how it reads.

    Attributes:
        backbone: in evaluation mode; a measure leaves it as it was.
        tokenizer, length: of what reads text: how text becomes ids, and the tokens of a row at most.
        device: where the backbone runs.
        pair: opens the run's objective with its text tower and heads (see `zero_shot.Aligned`); None where
            the run has no text tower.
    """

    backbone: Backbone
    tokenizer: Tokenizer | None = None
    length: int = 128
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    pair: Callable[[], Any] | None = None

    def rows(self, data: Data, split: str) -> Rows:
        """The samples of a split, one a row, with their labels where there are any.

        Raises:
            DataError: data of another kind than the backbone reads.
        """
        if isinstance(data, TextPairs) or data.modality != self.backbone.modality:
            raise DataError(
                f"{type(self.backbone).__name__} reads {self.backbone.modality}s, and {data.name} holds "
                + ("pairs of sentences" if isinstance(data, TextPairs) else f"{data.modality}s")
            )
        if not isinstance(data, TextData):
            return data.rows(split)
        return data.rows(split, self.words(), self.length, "document")

    def towers(self) -> Any:
        """The run's two towers, in evaluation mode.

        Raises:
            DataError: it has one.
        """
        if self.pair is None:
            raise DataError(
                "this run has no text tower: pretrain with objective=clip or objective=siglip, on images "
                "with captions or class names"
            )
        return self.pair()

    def words(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            DataError: there is none.
        """
        if self.tokenizer is None:
            raise DataError(f"{type(self.backbone).__name__} has no tokenizer: it does not read text")
        return self.tokenizer


@dataclass(frozen=True)
class Measured:
    """What a measure found for one seed.

    Attributes:
        metric, value: what it is ranked by.
        others: more scores on the test split, by name.
        chosen: settings chosen on validation.
        details: whatever else it tells, as values that `json.dump` takes.
        train, validation, test: how many samples of each split were used.
    """

    metric: str
    value: float
    others: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    train: int = 0
    validation: int = 0
    test: int = 0


@runtime_checkable
class Measure(Interface):
    """A way to score a backbone on data.

    Attributes:
        name: what the result calls it.
        stochastic: whether the seed matters.
    """

    name: ClassVar[str]
    stochastic: ClassVar[bool]

    def begin(self, subject: Subject, data: Any, seed: int) -> Callable[[Any], Measured]:
        """Act one: choose and fit on `data`, whose test split is sealed (see `Unopened`).

        Returns:
            Act two: a function that takes the same data, with the test split, and scores that.
        """
        ...


class Unopened:
    """A data set whose test split refuses to be read; all else is as it was."""

    def __init__(self, data: Data):
        self._data = data

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._data, name)
        if name not in READERS:
            return found

        def reader(split: str, *args: Any, **kwargs: Any) -> Any:
            if split == "test":
                self._refuse()
            return found(split, *args, **kwargs)

        return reader

    def _refuse(self) -> NoReturn:
        raise DataError(
            f"the test split of {self._data.name} is sealed: choose on validation, and score what act two "
            "is given"
        )

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # isinstance works on
        return type(self._data)


def examine(subject: Subject, data: Data, measure: Measure, *, seeds: Sequence[int] = (0, 1, 2)) -> Result:
    """The result of a measure over seeds; one that no seed changes runs the first alone.

    Raises:
        DataError: data that the measure cannot use, a result that is not finite, or a measure that peeked at
            the test split.
        ValueError: seeds that cannot be.
    """
    seeds = drawable(seeds)
    began = time.perf_counter()
    seeds = seeds if measure.stochastic else seeds[:1]
    found = [measure.begin(subject, Unopened(data), seed)(data) for seed in seeds]
    first = found[0]
    if not all(math.isfinite(one.value) for one in found):
        raise DataError(f"{measure.name} gives no finite {first.metric}: did pretraining diverge?")
    return Result(
        protocol=measure.name,
        metric=first.metric,
        seeds=seeds,
        values=tuple(one.value for one in found),
        others={name: tuple(one.others[name] for one in found) for name in first.others},
        chosen=tuple(one.chosen for one in found),
        labels=None,
        train=first.train,
        validation=first.validation,
        test=first.test,
        seconds=time.perf_counter() - began,
        details={name: [one.details[name] for one in found] for name in first.details},
    )
