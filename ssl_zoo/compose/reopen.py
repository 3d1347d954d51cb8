"""A pretraining run opened again: its data, its tokenizer, its backbone, and the objective with its heads.

What cannot be had is left out, and `notes` says why: a page about half of a run is better than none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.compose.composition import EXPECTED, ConfigError, explain
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.objective import build_objective
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.text import TextData
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.objectives._base import Objective
from ssl_zoo.objectives.span_corruption import SpanCorruption
from ssl_zoo.pretrain.checkpoint import newest, read_checkpoint

T = TypeVar("T")


@dataclass
class Opened:
    """A run folder and what could be opened of it.

    Attributes:
        where: the folder.
        config: the configuration of the run.
        notes: a sentence for each thing that is missing.
        data, tokenizer: of the run; None where they cannot be had.
        backbone: the finished one, else that of the newest checkpoint.
        objective: with trained heads, in evaluation mode.
        step: optimizer steps of the newest checkpoint; None without one.
    """

    where: Path
    config: DictConfig
    notes: list[str] = field(default_factory=list)
    data: ImageData | ImageCaptions | TextData | None = None
    tokenizer: Tokenizer | None = None
    backbone: Backbone | None = None
    objective: Objective | None = None
    step: int | None = None

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """What `make` gives, or a note that `what` is missing, and why."""
        try:
            return make()
        except EXPECTED as error:
            self.notes.append(f"Not shown: {what}. {explain(error)}")
            return None


def reopen(where: Path) -> Opened:
    """Open what is there of a run.

    Raises:
        ConfigError: the folder holds no run.
    """
    file = where / "config.yaml"
    if not file.exists():
        raise ConfigError(f"{where} holds no run: there is no {file}; name a folder that pretrain wrote")
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    run = Opened(where, config)
    if (where / "tokenizer").exists():
        run.tokenizer = run.attempt("anything of text", lambda: Tokenizer.load(where / "tokenizer"))
    run.data = run.attempt("rows of the run's own data", lambda: instantiate(config.data, _convert_="all"))
    state = run.attempt("what needs a checkpoint", lambda: weights(run))
    if state:
        run.objective = run.attempt("what the objective predicts", lambda: trained(run, state))
    if (where / "backbone").exists():
        run.backbone = run.attempt("what needs the backbone", lambda: hub.load(where))
    elif run.objective is not None:
        run.backbone = run.objective.backbone
    return run


def with_weights(where: Path) -> tuple[Opened, Any]:
    """A run of texts with its tokenizer, and the weights of its newest checkpoint; None without one."""
    config = OmegaConf.load(where / "config.yaml")
    assert isinstance(config, DictConfig)
    run = Opened(where, config, tokenizer=Tokenizer.load(where / "tokenizer"))
    return run, weights(run)


def reopen_pair(where: Path) -> Objective:
    """The objective of a run, or the term of its sum, that has a text tower; with the weights of the newest
    checkpoint, in evaluation mode.

    Raises:
        ConfigError: there is no checkpoint, or what `trained` raises.
    """
    run, state = with_weights(where)
    if state is None:
        raise ConfigError(f"{where} has no checkpoint, where the heads of its two towers are")
    return next(part for part in trained(run, state).modules() if hasattr(part, "text_vectors"))  # pyright: ignore


def reopen_marks(where: Path) -> Tensor:
    """The marks (K, D) of the objective of a run, or of the term of its sum, that learned to write spans; of
    the newest checkpoint.

    Raises:
        ConfigError: there is no checkpoint, or what `trained` raises.
    """
    run, state = with_weights(where)
    if state is None:
        raise ConfigError(
            f"{where} has no checkpoint, where the marks are that stand for what is written: take a run with "
            "its checkpoints, or tune it on prompts and completions, which needs no marks"
        )
    found = (part for part in trained(run, state).modules() if isinstance(part, SpanCorruption))
    return next(found).marks.weight.detach()


def weights(run: Opened) -> dict[str, Any] | None:
    """The objective's state in the newest whole checkpoint; None where there is none."""
    found = newest(run.where / "checkpoints")
    if found is None:
        run.notes.append("Not shown: what needs weights. The run has no checkpoint yet.")
        return None
    checkpoint = read_checkpoint(found)
    run.step = int(checkpoint["global_step"])
    prefix = "objective."
    state = checkpoint["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def trained(run: Opened, state: dict[str, Any]) -> Objective:
    """The objective of the configuration with the weights of a checkpoint.

    Raises:
        ConfigError: the objective is code of the user's own, or its weights are of another version.
    """
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are overwritten
        objective = build_objective(run.config, run.tokenizer)
    try:
        objective.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]
        raise ConfigError(
            "The heads in the newest checkpoint do not fit this version of the objective "
            f"({first[0].strip()[:90]} ...): they were written by another version of ssl_zoo."
        ) from error
    return objective.eval()
