"""A backbone with a head and the goal that they were tuned for, kept in a folder.

model/
  model.json         format, task, what the goal is, how inputs are read, how it was made and what it scored
  head.safetensors   of the head
  backbone/          see `hub`
  tokenizer/         of texts
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from ssl_zoo import hub
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.transfer.features import place
from ssl_zoo.transfer.measures import Subject
from ssl_zoo.transfer.model_file import NAME, read_head, read_model_file, save_model, task_of
from ssl_zoo.transfer.tasks.goal import Goal
from ssl_zoo.transfer.tasks.labels import Labels
from ssl_zoo.transfer.tasks.masks import Masks
from ssl_zoo.transfer.tasks.regression import Regression
from ssl_zoo.transfer.tasks.tags import Tags
from ssl_zoo.untrusted import Untrusted

GOALS: dict[str, type[Goal]] = {one.task: one for one in (Labels, Regression, Tags, Masks)}
GOAL = "goal"


@dataclass
class TaskModel:
    """A model that tells what its goal says.

    Attributes:
        subject: the backbone, how it reads text, and where it runs.
        head: (B, M, D) -> (B, M, width), on the points that the goal reads.
        goal: what is told.
        about: how inputs are read ("reads"), how it was made ("made") and what it scored ("scores"), as plain
            JSON values.
    """

    subject: Subject
    head: nn.Module
    goal: Goal
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def reads(self) -> dict[str, Any]:
        """How inputs are read."""
        found = self.about.get("reads")
        return found if isinstance(found, dict) else {}


def is_task_model(folder: Path) -> bool:
    """Whether a folder holds such a model."""
    return (folder / NAME).is_file() and task_of(folder) in GOALS


def save(model: TaskModel, folder: Path) -> None:
    """Write a model into a folder, which is whole or absent."""
    facts = {GOAL: model.goal.facts(), **model.about}
    save_model(model.subject, model.head, folder, model.goal.task, facts)


def load(folder: Path, device: str = "auto") -> TaskModel:
    """Open a model.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        HubError: there is none, it is for another task, or a file is damaged.
    """
    task = task_of(folder)
    if task not in GOALS:
        raise hub.HubError(f"{folder} holds no model of {', '.join(GOALS)}")
    about = read_model_file(folder, task)
    try:
        facts = about.pop(GOAL, None)
        if not isinstance(facts, dict):
            raise Untrusted(f"{NAME} does not say what the model tells")
        goal = GOALS[task].of(facts)
        state = read_head(folder, about)
        backbone = hub.load(folder / "backbone")
        if not goal.fits(backbone):
            raise Untrusted(f"{NAME} says another grid than the backbone has")
        head = goal.head(backbone)
        shapes = {name: tuple(one.shape) for name, one in state.items()}
        if shapes != {name: tuple(one.shape) for name, one in head.state_dict().items()}:
            raise Untrusted(f"head.safetensors does not fit the {task} and the backbone")
        head.load_state_dict(state)
        tokenizer = Tokenizer.load(folder / "tokenizer") if backbone.modality == "text" else None
    except (OSError, Untrusted, SafetensorError) as error:
        raise hub.HubError(f"the model in {folder} cannot be opened: {error}") from error
    reads = about.get("reads")
    length = reads.get("length") if isinstance(reads, dict) else None
    length = length if type(length) is int and length > 0 else 128
    return TaskModel(Subject(backbone, tokenizer, length, place(device)), head.eval(), goal, about)
