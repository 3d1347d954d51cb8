"""One row and seed of a board: pretrain, measure, and the record of both.

Everything lies in one folder, RUNS/BOARD/ROW/sSEED-KEY, where KEY stands for the configuration, code and data
that pretraining depends on: a unit that was interrupted goes on where it stopped, and a change starts anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.cli import compose, evaluate, pretrain
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.leaderboard import code
from ssl_zoo.leaderboard.board import Board, BoardError, Recipe
from ssl_zoo.pretrain.checkpoint import write_atomically
from ssl_zoo.pretrain.run import environment
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.evaluate import Protocol
from ssl_zoo.transfer.evaluate import evaluate as score
from ssl_zoo.transfer.features import remembering
from ssl_zoo.transfer.measures import Data, Measure, Subject, examine
from ssl_zoo.transfer.protocols import Finetune
from ssl_zoo.transfer.report import Result, written
from ssl_zoo.transfer.similarity import Similarity


class Busy(RuntimeError):
    """Another process works on this unit."""


def stage_one(board: Board, recipe: Recipe, seed: int, trust: frozenset[str] | None) -> DictConfig:
    """The composed configuration of `ssl-zoo pretrain`; for a floor, any objective that composes stands in.

    trust: full names of classes outside this library that the recipe may build; None where no objective is
        built, and only its code is read.
    """
    words = compose.with_custom_objective([*board.pretrain_words(recipe), f"seed={seed}"])
    if recipe.floor is not None:
        words += ["objective=supervised", "budget.steps=1"]
        if not any(word.startswith("backbone=") for word in words):
            words.append("backbone=resnet_micro")
    return composed("pretrain", words, trust)


def stage_two(board: Board, measure: str) -> DictConfig:
    """The composed configuration of `ssl-zoo evaluate`."""
    return composed("evaluate", [*board.evaluate_words(measure), "run=.", "device=auto"], frozenset())


def composed(verb: str, words: list[str], trust: frozenset[str] | None) -> DictConfig:
    """Checked and composed; each call gives a copy."""
    return _composed(verb, tuple(words), trust).copy()


@functools.cache
def _composed(verb: str, words: tuple[str, ...], trust: frozenset[str] | None) -> DictConfig:
    compose.check(verb, list(words))
    cfg = compose.build(verb, list(words))
    compose.refuse_unknown_targets(cfg, set(built(cfg.objective) if trust is None else trust))
    return cfg


def built(tree: Any) -> list[str]:
    """Every `_target_` of a configuration."""
    return [value for _, value in compose.targets(OmegaConf.to_container(tree))]


def code_of(cfg: DictConfig, recipe: Recipe) -> dict[str, str]:
    """Hashes of the code behind pretraining, by part."""
    if recipe.floor in ("pixels", "tfidf"):
        return {"floor": code.digest(["ssl_zoo.transfer.floors"])}
    objective = [] if recipe.floor else built(cfg.objective)
    return code.pretraining(objective, built(cfg.backbone))


def settled(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration without what may differ between sessions and machines."""
    whole = compose.plain(cfg)
    kept = {key: value for key, value in whole.items() if key not in (*pretrain.FREE, "seed")}
    folder = re.escape(str(whole["data_dir"]))
    plain = re.sub(f'"{folder}/', '"DATA/', json.dumps(kept | {"budget": whole["budget"]}))
    return json.loads(plain)


class Datasets:
    """Data sets by their configuration, each built once, with a fingerprint of what they hold."""

    def __init__(self):
        self.built: dict[str, Data] = {}
        self.prints: dict[str, str] = {}

    def get(self, cfg: DictConfig) -> Data:
        key = json.dumps(OmegaConf.to_container(cfg, resolve=True), sort_keys=True)
        if key not in self.built:
            self.built[key] = instantiate(cfg, _convert_="all")
        return self.built[key]

    def fingerprint(self, cfg: DictConfig) -> str:
        """Of the samples and labels of all splits: 12 hexadecimal digits.

        Raises:
            DataError: the data are not there.
        """
        key = json.dumps(OmegaConf.to_container(cfg, resolve=True), sort_keys=True)
        if key not in self.prints:
            self.prints[key] = fingerprint(self.get(cfg))
        return self.prints[key]


def fingerprint(data: Data) -> str:
    made = hashlib.blake2b(digest_size=6)
    for split in data.splits():
        made.update(split.encode())
        if isinstance(data, ImageData):
            made.update(data.rows(split).fingerprint.encode())
        elif isinstance(data, TextData):
            for text in data.documents(split):
                made.update(text.encode() + b"\0")
            labels = data.labels(split)
            made.update(b"" if labels is None else np.ascontiguousarray(labels, "<i8").tobytes())
        else:
            made.update(json.dumps([data.pairs(split), data.scores(split).tolist()]).encode())
    return made.hexdigest()


@contextlib.contextmanager
def alone(where: Path) -> Iterator[None]:
    """Hold the folder of a unit.

    Raises:
        Busy: another process holds it.
    """
    where.mkdir(parents=True, exist_ok=True)
    with open(where / ".unit", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"another process works on {where}") from error
        yield


class Unit:
    """See the top of this file. runs: the folder of all runs; trust: see `stage_one`."""

    def __init__(
        self,
        board: Board,
        recipe: Recipe,
        seed: int,
        runs: Path,
        datasets: Datasets,
        trust: frozenset[str] | None = frozenset(),
    ):
        self.board, self.recipe, self.seed, self.datasets = board, recipe, seed, datasets
        self.subjects: dict[str, Subject] = {}
        self.cfg = stage_one(board, recipe, seed, trust)
        self.code = code_of(self.cfg, recipe)
        self.config = settled(self.cfg)
        self.data = {str(self.cfg.data.name): datasets.fingerprint(self.cfg.data)}
        depends = {"config": self.config, "code": self.code, "data": self.data, "floor": recipe.floor}
        key = hashlib.blake2b(json.dumps(depends, sort_keys=True).encode(), digest_size=4).hexdigest()
        self.where = runs / board.name / recipe.name / f"s{seed}-{key}"

    def run(self, say: Callable[[str], None] = print) -> dict[str, Any]:
        """The record of the row and seed. What takes long is done once, however often this is interrupted.

        Raises:
            Busy: another process works on it.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(self.cfg.threads or threads)
        try:
            with alone(self.where), remembering():
                pretraining = self.prepare()
                measures = {}
                for name in self.board.measures:
                    if name not in self.recipe.without:
                        measures[name] = self.measured(name)
                        say(f"{self.recipe.name} seed {self.seed}: {said(name, measures[name])}")
        finally:
            torch.set_num_threads(threads)
        facts = environment()
        return {
            "row": self.recipe.name,
            "seed": self.seed,
            "title": self.recipe.title,
            "family": self.recipe.family,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "config": self.config,
            "pretraining": pretraining,
            "measures": measures,
            "code": self.code,
            "data": self.data,
            "versions": {"ssl_zoo": facts["ssl_zoo"], "python": facts["python"], **facts["versions"]},
            "hardware": {key: facts[key] for key in ("processor", "cores", "threads", "devices")},
            "commit": facts["commit"],
            "seconds": round(
                sum(one["seconds"] for one in measures.values()) + pretraining.get("seconds", 0), 1
            ),
        }

    def changes(self, record: dict[str, Any]) -> list[str]:
        """What a record was made with that is otherwise now; [] for one that still stands."""
        found = [] if record["config"] == self.config else ["configuration"]
        parts = {*record["code"], *self.code}
        found += [
            f"code of {part}" for part in sorted(parts) if record["code"].get(part) != self.code.get(part)
        ]
        found += [] if agree(record["data"], self.data) else ["data"]
        wanted = [name for name in self.board.measures if name not in self.recipe.without]
        for name in wanted:
            before = record["measures"].get(name)
            if before is None:
                found.append(f"{name}: not measured")
            else:
                now = self.facts(name, stage_two(self.board, name))
                found += [f"{what} of {name}" for what in ("words", "code") if before[what] != now[what]]
                found += [] if agree(before["data"], now["data"]) else [f"data of {name}"]
        return found

    def facts(self, name: str, cfg: DictConfig) -> dict[str, Any]:
        """What a measure depends on besides the backbone."""
        return {
            "words": self.board.evaluate_words(name),
            "code": code.transfer(built(cfg.protocol)),
            "data": {str(cfg.data.name): self.datasets.fingerprint(cfg.data)},
        }

    def prepare(self) -> dict[str, Any]:
        """Stage 1, or what stands in for it; the summary of pretraining."""
        if self.recipe.floor == "random":
            return self.random()
        if self.recipe.floor is not None:
            return {}
        cfg = self.cfg.copy()
        cfg.run = str(self.where)
        spent = self.where / "processor_seconds.json"
        alone = not (
            self.where / "checkpoints"
        ).exists()  # of pretraining in several sessions nobody knows it
        before = time.process_time()
        with quiet(self.where / "pretraining.log"):
            pretrain.run(cfg, {})
        if alone:
            write_atomically(spent, json.dumps(round(time.process_time() - before, 1)).encode())
        processor = json.loads(spent.read_text()) if spent.exists() else None
        return json.loads((self.where / "summary.json").read_text()) | {"processor_seconds": processor}

    def random(self) -> dict[str, Any]:
        """The backbone with random weights, in the folder as pretraining would leave it."""
        if not (self.where / "backbone").exists():
            make: Any = instantiate(self.cfg.backbone, _convert_="all", _partial_=True)
            data = self.datasets.get(self.cfg.data)
            if isinstance(data, TextData):
                tokenizer = instantiate(self.cfg.tokenizer, _convert_="all")(data.documents("train"))
                tokenizer.save(self.where / "tokenizer")
                words = tokenizer.vocabulary
                backbone = floors.fresh(lambda: make(vocabulary=words), self.seed)
            else:
                backbone = floors.fresh(make, self.seed)
            OmegaConf.save(self.cfg, self.where / "config.yaml")
            hub.save(backbone, self.where / "backbone")
        return {"steps": 0, "seconds": 0.0}

    def measured(self, name: str) -> dict[str, Any]:
        """Results of one measure, from its file where that was written with the same words, code and data."""
        cfg = stage_two(self.board, name)
        facts = self.facts(name, cfg)
        file = self.where / "measures" / f"{name}.json"
        if file.exists():
            before = json.loads(file.read_text())
            if all(before[key] == facts[key] for key in facts):
                return before
        cfg.seeds = [self.seed]
        began = time.perf_counter()
        with quiet(self.where / "measures.log"):
            results = [plain(result) for result in self.results(cfg)]
        found = facts | {"results": results, "seconds": round(time.perf_counter() - began, 1)}
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(found).encode())
        return found

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
        splits = evaluate.read_splits(data, one)
        found = [
            replace(
                score(one.backbone, *splits, point.protocol, **evaluate.options(cfg, point, one.device)),
                steps=point.steps,
            )
            for point in evaluate.sweep(cfg, protocol)
        ]
        yield from reversed(found)

    def subject(self, cfg: DictConfig, data: Data) -> Subject:
        """The backbone of the unit (or the pixels of the data), opened once: its features are read once."""
        name = data.name if self.recipe.floor == "pixels" else ""
        if name not in self.subjects:
            if isinstance(data, ImageData) and self.recipe.floor == "pixels":
                self.subjects[name] = Subject(floors.Pixels(data.rows("train")))
            else:
                self.subjects[name] = evaluate.subject(self.where, None, cfg.device)
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
        for point in reversed(list(evaluate.sweep(cfg, protocol))):
            yield evaluate.tfidf(data, evaluate.options(cfg, point, torch.device("cpu")))


def agree(recorded: Mapping[str, str], now: Mapping[str, str | None]) -> bool:
    """Whether the data are the same; those that are not on this machine (None) cannot be compared."""
    return all(now.get(name) in (None, value) for name, value in recorded.items())


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


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """What is printed goes to the end of a file."""
    with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def keep_watch(parent: int) -> None:
    """End this process when its parent is gone: a killed board leaves nothing running."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
