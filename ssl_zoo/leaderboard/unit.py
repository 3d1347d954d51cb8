"""One line and seed of a board: pretrain, measure, and the record of both.

Everything lies in one folder, RUNS/BOARD/LINE/sSEED-KEY, where KEY is a hash of the configuration, code and
data that pretraining depends on. So a unit that was interrupted goes on where it stopped, and one of which
something has changed starts anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.leaderboard import code
from ssl_zoo.leaderboard.board import BAGS, Board, BoardError, Recipe
from ssl_zoo.leaderboard.composer import Composer, Config, Trust
from ssl_zoo.leaderboard.datasets import Datasets, agree
from ssl_zoo.leaderboard.examiner import Examiner, format_measure, plain
from ssl_zoo.leaderboard.stages import code_of, first_overrides
from ssl_zoo.portable import lock_file
from ssl_zoo.pretrain.environment import environment
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer.features import remembering

LOCK = ".unit"  # the file in the folder of a unit that the process working there holds


class Busy(RuntimeError):
    """Another process works on this unit."""


@contextlib.contextmanager
def alone(where: Path) -> Iterator[None]:
    """Hold the folder of a unit.

    Raises:
        Busy: another process holds it.
    """
    where.mkdir(parents=True, exist_ok=True)
    with open(where / LOCK, "w") as file:
        try:
            lock_file(file.fileno(), wait=False)
        except OSError as error:
            raise Busy(f"another process works on {where}") from error
        yield


class Unit:
    """One line and seed of a board (see the top of this file).

    Args:
        runs: the folder of all runs.
        datasets: may be shared between units.
        trust: see `Composer.pretraining`.

    Attributes:
        where: the folder of this unit.
        code, data: hashes of what pretraining depends on, by part of the code and by name of the data.
    """

    def __init__(
        self,
        composer: Composer,
        board: Board,
        recipe: Recipe,
        seed: int,
        runs: Path,
        datasets: Datasets,
        trust: Trust | None = frozenset(),
    ):
        self.composer, self.board, self.recipe, self.seed = composer, board, recipe, seed
        self.cfg: Config = composer.pretraining(first_overrides(board, recipe, seed), trust)
        self.code = code_of(composer, self.cfg, recipe)
        self.config = composer.settled(self.cfg)
        if recipe.options:
            self.config["floor"] = dict(recipe.options)
        self.datasets = datasets
        self._facts: dict[str, dict[str, Any]] = {}
        self.data = {str(self.cfg.data.name): datasets.fingerprint(self.cfg.data)}
        depends = {"config": self.config, "code": self.code, "data": self.data, "floor": recipe.floor}
        key = hashlib.blake2b(json.dumps(depends, sort_keys=True).encode(), digest_size=4).hexdigest()
        self.where = runs / board.name / recipe.name / f"s{seed}-{key}"
        self.examiner = Examiner(composer, recipe, seed, self.where, datasets)

    def run(self, say: Callable[[str], None] = print) -> dict[str, Any]:
        """Pretrain and measure, and give the record of the line and seed.

        Finished parts are read from the folder, so what takes long is done once, however often this is
        interrupted.

        Args:
            say: gets a sentence on each measure.

        Raises:
            Busy: another process works on it.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(self.cfg.threads or threads)
        try:
            with alone(self.where), remembering():
                pretraining = self.prepare()
                measures = {}
                for name in self.board.measures_of(self.recipe):
                    measures[name] = self.measured(name)
                    say(f"{self.recipe.name} seed {self.seed}: {format_measure(name, measures[name])}")
        finally:
            torch.set_num_threads(threads)
        facts = environment()
        return {
            "line": self.recipe.name,
            "seed": self.seed,
            "title": self.recipe.title,
            "role": self.recipe.role,
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
        """What a record was made with and has changed since; [] for one that still stands."""
        found = [] if record["config"] == self.config else ["configuration changed"]
        codes = [(part, record["code"].get(part), self.code.get(part)) for part in self.code | record["code"]]
        for name in self.board.measures_of(self.recipe):
            if (before := record["measures"].get(name)) is not None:
                codes.append((name, before["code"], self.facts(name)["code"]))
        differ: dict[str, list[str]] = {}
        for name, before, now in codes:
            differ.setdefault(code.differs(before, now), []).append(name)
        found += [f"code of {', '.join(parts)} {how}" for how, parts in differ.items() if how]
        return found + self.changes_beside_code(record)

    def changes_beside_code(self, record: dict[str, Any]) -> list[str]:
        """What has changed since a record was made, in the data and in what is measured."""
        found = [] if agree(record["data"], self.data) else ["data changed"]
        for name in self.board.measures_of(self.recipe):
            before = record["measures"].get(name)
            if before is None:
                found.append(f"{name}: not measured")
                continue
            now = self.facts(name)
            found += [] if before["overrides"] == now["overrides"] else [f"overrides of {name} changed"]
            found += [] if agree(before["data"], now["data"]) else [f"data of {name} changed"]
        return found

    def measure(self, name: str) -> Config:
        """The configuration of a measure."""
        return self.composer.evaluation(self.board.evaluate_overrides(name))

    def facts(self, name: str) -> dict[str, Any]:
        """What a measure depends on besides the backbone."""
        if name not in self._facts:
            cfg = self.measure(name)
            self._facts[name] = {
                "overrides": self.board.evaluate_overrides(name),
                "code": code.transfer(self.composer.targets(cfg.protocol)),
                "data": {str(cfg.data.name): self.datasets.fingerprint(cfg.data)},
            }
        return self._facts[name]

    def prepare(self) -> dict[str, Any]:
        """Stage 1, or what stands in for it; the summary of pretraining."""
        if self.recipe.floor in BAGS:
            return self.vectors()
        if self.recipe.floor == "random":
            return self.random()
        if self.recipe.floor is not None:
            return {}
        spent = self.where / "processor_seconds.json"
        begun = (self.where / "checkpoints").exists()  # then the time of earlier sessions is not known
        before = time.process_time()
        with quiet(self.where / "pretraining.log"):
            self.composer.pretrain(self.cfg, self.where)
        if not begun:
            write_atomically(spent, json.dumps(round(time.process_time() - before, 1)).encode())
        processor = json.loads(spent.read_text()) if spent.exists() else None
        return json.loads((self.where / "summary.json").read_text()) | {"processor_seconds": processor}

    def random(self) -> dict[str, Any]:
        """The backbone with random weights, in the folder as pretraining would leave it."""
        if not (self.where / "backbone").exists():
            self.draw()
        return {"steps": 0, "seconds": 0.0}

    def vectors(self) -> dict[str, Any]:
        """A bag of word vectors that were counted, in the folder as pretraining would leave it; what its
        tokenizer and its vectors took."""
        summary = self.where / "summary.json"
        if not summary.exists():
            began, before = time.perf_counter(), time.process_time()
            with quiet(self.where / "pretraining.log"):
                self.draw()
            seconds, processor = time.perf_counter() - began, time.process_time() - before
            told = {"steps": 0, "seconds": round(seconds, 1), "processor_seconds": round(processor, 1)}
            write_atomically(summary, json.dumps(told).encode())
        return json.loads(summary.read_text())

    def draw(self) -> None:
        """Write the backbone of a floor into the folder.

        Raises:
            BoardError: the data are pairs of sentences, or no texts where the floor is made of texts.
        """
        data = self.datasets.get(self.cfg.data)
        if isinstance(data, TextPairs):
            raise BoardError(f"{data.name} holds pairs of sentences, which nothing pretrains on")
        if self.recipe.floor in BAGS and not isinstance(data, TextData):
            raise BoardError(
                f"{self.recipe.name}: {self.recipe.floor} is a floor for texts, and {data.name} holds images"
            )
        self.composer.draw(self.cfg, self.where, data, self.seed, self.recipe)

    def measured(self, name: str) -> dict[str, Any]:
        """Results of one measure, from its file where that has the same overrides, code and data."""
        cfg = self.measure(name)
        facts = self.facts(name)
        file = self.where / "measures" / f"{name}.json"
        if file.exists():
            before = json.loads(file.read_text())
            if all(before.get(key) == facts[key] for key in facts):
                return before
        cfg.seeds = [self.seed]
        began = time.perf_counter()
        with quiet(self.where / "measures.log"):
            results = [plain(result) for result in self.examiner.results(cfg)]
        found = facts | {"results": results, "seconds": round(time.perf_counter() - began, 1)}
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(found).encode())
        return found


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Within, what is printed goes to the end of a file."""
    with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def keep_watch(parent: int) -> None:
    """End this process when its parent is gone: a killed board leaves nothing running."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
