"""Stage 2 of a row: a measure of the board on the row's backbone, or on the floor that stands in for one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ssl_zoo.compose import evaluation
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.leaderboard.board import BoardError, Recipe
from ssl_zoo.leaderboard.datasets import Datasets
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.evaluate import Protocol
from ssl_zoo.transfer.evaluate import evaluate as score
from ssl_zoo.transfer.measures import Data, Measure, Subject, examine
from ssl_zoo.transfer.protocols import Finetune
from ssl_zoo.transfer.report import Result, written
from ssl_zoo.transfer.similarity import Similarity


class Examiner:
    """Measures one row and seed. where: the folder of its run."""

    def __init__(self, recipe: Recipe, seed: int, where: Path, datasets: Datasets):
        self.recipe, self.seed, self.where, self.datasets = recipe, seed, where, datasets
        self.subjects: dict[str, Subject] = {}

    def results(self, cfg: DictConfig) -> Iterator[Result]:
        """Results of one measure, small label budgets first."""
        data = self.datasets.get(cfg.data)
        protocol: Protocol | Measure = instantiate(cfg.protocol, _convert_="all")
        seeds = (self.seed,)
        if self.recipe.floor == "tfidf":
            yield from self.tfidf(cfg, data, protocol)
            return
        one = self.subject(cfg, data)
        if isinstance(protocol, Measure):
            yield examine(one, data, protocol, seeds=seeds)
            return
        assert isinstance(data, (ImageData, TextData))
        if self.recipe.floor == "random" and isinstance(protocol, Finetune):
            protocol = floors.from_scratch(protocol)
        splits = evaluation.read_splits(data, one)
        found = [
            replace(
                score(one.backbone, *splits, point.protocol, **evaluation.options(cfg, point, one.device)),
                steps=point.steps,
            )
            for point in evaluation.sweep(cfg, protocol)
        ]
        yield from reversed(found)

    def subject(self, cfg: DictConfig, data: Data) -> Subject:
        """The backbone of the unit (or the pixels of the data), opened once: its features are read once."""
        name = data.name if self.recipe.floor == "pixels" else ""
        if name not in self.subjects:
            if isinstance(data, ImageData) and self.recipe.floor == "pixels":
                self.subjects[name] = Subject(floors.Pixels(data.rows("train")))
            else:
                self.subjects[name] = evaluation.subject(self.where, None, cfg.device)
        one = self.subjects[name]
        return one if cfg.length is None else replace(one, length=cfg.length)

    def tfidf(self, cfg: DictConfig, data: Data, protocol: Protocol | Measure) -> Iterator[Result]:
        if isinstance(data, TextPairs) and isinstance(protocol, Similarity):
            yield floors.tfidf_similarity(data)
            return
        if not isinstance(data, TextData) or isinstance(protocol, Measure):
            raise BoardError(
                f"{self.recipe.name}: TF-IDF is a floor for labelled texts; list the measure in `without`"
            )
        for point in reversed(list(evaluation.sweep(cfg, protocol))):
            yield evaluation.tfidf(data, evaluation.options(cfg, point, torch.device("cpu")))


def plain(result: Result) -> dict[str, Any]:
    """A result of one seed, as a record keeps it."""
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


def said(name: str, measure: dict[str, Any]) -> str:
    """A measure in one line."""
    shown = ", ".join(written(one["metric"], one["value"], None) for one in measure["results"])
    return f"{name} {shown} ({measure['seconds']:.0f} s)"
