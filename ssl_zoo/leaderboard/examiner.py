"""Stage 2 of a line: the measures of the board on its backbone, or on the floor that stands in for one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.leaderboard.board import BoardError, Recipe
from ssl_zoo.leaderboard.composer import Composer, Config
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.evaluate import Protocol
from ssl_zoo.transfer.evaluate import evaluate as score
from ssl_zoo.transfer.measures import Data, Measure, Subject, examine
from ssl_zoo.transfer.protocols import Finetune
from ssl_zoo.transfer.report import Result, format_score
from ssl_zoo.transfer.similarity import Similarity


class Examiner:
    """Measures one line and seed.

    Args:
        where: the folder of its run.
    """

    def __init__(self, composer: Composer, recipe: Recipe, seed: int, where: Path, datasets: Datasets):
        self.composer, self.datasets = composer, datasets
        self.recipe, self.seed, self.where = recipe, seed, where
        self.subjects: dict[int | None, Subject] = {}  # of pixels, by the identity of the data

    def results(self, config: Config) -> Iterator[Result]:
        """Results of one measure, small label budgets first.

        Raises:
            BoardError: the measure does not go with the data, or the floor not with them.
        """
        data = self.datasets.get(config.data)
        protocol: Protocol | Measure = self.composer.build(config.protocol)
        if self.recipe.floor == "tfidf":
            yield from self.tfidf(config, data, protocol)
            return
        one = self.subject(config, data)
        if isinstance(protocol, Measure):
            yield examine(one, data, protocol, seeds=(self.seed,))
            return
        if not isinstance(data, (ImageData, TextData)):
            raise BoardError(f"protocol {protocol.name} needs data with classes, and {data.name} has none")
        if self.recipe.floor == "random" and isinstance(protocol, Finetune):
            protocol = floors.from_scratch(protocol)
        splits = self.composer.splits(config, data, one)
        found = [
            replace(score(one.backbone, *splits, point.protocol, **point.how), steps=point.steps)
            for point in self.composer.settings(config, protocol, one)
        ]
        yield from reversed(found)

    def subject(self, config: Config, data: Data) -> Subject:
        """The backbone of the unit, or the pixels of the data. It is opened once, so that its features are
        read once."""
        pixels = self.recipe.floor == "pixels"
        if pixels and not isinstance(data, ImageData):
            raise BoardError(
                f"{self.recipe.name}: pixels are a floor for labelled images; list the measure in `without`"
            )
        key = id(data) if pixels else None
        if key not in self.subjects:
            self.subjects[key] = (
                Subject(floors.Pixels(data.rows("train")))
                if isinstance(data, ImageData) and pixels
                else self.composer.subject(self.where, config.device)
            )
        one = self.subjects[key]
        return one if config.length is None else replace(one, length=config.length)

    def tfidf(self, config: Config, data: Data, protocol: Protocol | Measure) -> Iterator[Result]:
        """Results of TF-IDF in the place of a backbone."""
        if isinstance(data, TextPairs) and isinstance(protocol, Similarity):
            yield floors.tfidf_similarity(data)
            return
        if not isinstance(data, TextData) or isinstance(protocol, Measure):
            raise BoardError(
                f"{self.recipe.name}: TF-IDF is a floor for labelled texts; list the measure in `without`"
            )
        for point in reversed(list(self.composer.settings(config, protocol, None))):
            yield self.composer.tfidf(config, data, point.how)


def plain(result: Result) -> dict[str, Any]:
    """A result of one seed as plain values, which a record keeps."""
    return {
        "protocol": result.protocol,
        "metric": result.metric,
        "value": result.values[0],
        "others": {name: values[0] for name, values in result.others.items()},
        "labels": result.labels,
        "steps": result.steps,
        "chosen": result.chosen[0],
        "train": result.train,
        "validation": result.validation,
        "test": result.test,
        "seconds": round(result.seconds, 1),
        "flops": (result.details.get("flops") or [None])[0],
        "details": {name: values[0] for name, values in result.details.items() if name != "flops"},
    }


def format_measure(name: str, measure: dict[str, Any]) -> str:
    """A measure in one line."""
    shown = ", ".join(format_score(one["metric"], one["value"], None) for one in measure["results"])
    return f"{name} {shown} ({measure['seconds']:.0f} s)"
