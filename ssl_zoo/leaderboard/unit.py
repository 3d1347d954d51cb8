"""One row and seed of a board: pretrain, measure, and the record of both.

Everything lies in one folder, RUNS/BOARD/ROW/sSEED-KEY, where KEY stands for the configuration, code and data
that pretraining depends on: a unit that was interrupted goes on where it stopped, and a change starts anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.compose import pretraining
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.tokenizer import new_tokenizer
from ssl_zoo.data.text import TextData
from ssl_zoo.leaderboard import code
from ssl_zoo.leaderboard.board import Board, Recipe
from ssl_zoo.leaderboard.datasets import Datasets, agree
from ssl_zoo.leaderboard.examiner import Examiner, plain, said
from ssl_zoo.leaderboard.stages import built, code_of, settled, stage_one, stage_two
from ssl_zoo.pretrain.checkpoint import write_atomically
from ssl_zoo.pretrain.run import environment
from ssl_zoo.transfer import floors
from ssl_zoo.transfer.features import remembering


class Busy(RuntimeError):
    """Another process works on this unit."""


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
        self.cfg = stage_one(board, recipe, seed, trust)
        self.code = code_of(self.cfg, recipe)
        self.config = settled(self.cfg)
        self.data = {str(self.cfg.data.name): datasets.fingerprint(self.cfg.data)}
        depends = {"config": self.config, "code": self.code, "data": self.data, "floor": recipe.floor}
        key = hashlib.blake2b(json.dumps(depends, sort_keys=True).encode(), digest_size=4).hexdigest()
        self.where = runs / board.name / recipe.name / f"s{seed}-{key}"
        self.examiner = Examiner(recipe, seed, self.where, datasets)

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
                for name in self.board.measures_of(self.recipe):
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
        found = [] if record["config"] == self.config else ["configuration changed"]
        parts = {*record["code"], *self.code}
        for part in sorted(parts):
            if how := code.differs(record["code"].get(part), self.code.get(part)):
                found.append(f"code of {part} {how}")
        found += [] if agree(record["data"], self.data) else ["data changed"]
        wanted = self.board.measures_of(self.recipe)
        for name in wanted:
            before = record["measures"].get(name)
            if before is None:
                found.append(f"{name}: not measured")
            else:
                now = self.facts(name, stage_two(self.board, name))
                found += [f"words of {name} changed"] if before["words"] != now["words"] else []
                found += (
                    [f"code of {name} {how}"] if (how := code.differs(before["code"], now["code"])) else []
                )
                found += [] if agree(before["data"], now["data"]) else [f"data of {name} changed"]
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
        begun = (self.where / "checkpoints").exists()  # what other sessions took, nobody knows
        before = time.process_time()
        with quiet(self.where / "pretraining.log"):
            pretraining.pretrain_from(cfg, {})
        if not begun:
            write_atomically(spent, json.dumps(round(time.process_time() - before, 1)).encode())
        processor = json.loads(spent.read_text()) if spent.exists() else None
        return json.loads((self.where / "summary.json").read_text()) | {"processor_seconds": processor}

    def random(self) -> dict[str, Any]:
        """The backbone with random weights, in the folder as pretraining would leave it."""
        if not (self.where / "backbone").exists():
            make: Any = instantiate(self.cfg.backbone, _convert_="all", _partial_=True)
            data = self.datasets.get(self.cfg.data)
            if isinstance(data, TextData):
                tokenizer = new_tokenizer(self.cfg, data.texts("train"), self.cfg.backbone)
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
            results = [plain(result) for result in self.examiner.results(cfg)]
        found = facts | {"results": results, "seconds": round(time.perf_counter() - began, 1)}
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(found).encode())
        return found


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
