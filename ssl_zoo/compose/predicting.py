"""The classes of what lies at a path, as a kept model tells them and a configuration asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.evaluation import single_samples
from ssl_zoo.compose.objects import NONE, Objects
from ssl_zoo.compose.task_predicting import Told, predict_task
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.messages import note
from ssl_zoo.transfer import kept
from ssl_zoo.transfer.embed import Account, Names
from ssl_zoo.transfer.kept import Kept
from ssl_zoo.transfer.predictions import KINDS, Prediction, predicted
from ssl_zoo.transfer.tasks import model as tasks
from ssl_zoo.transfer.tasks.model import TaskModel
from ssl_zoo.transfer.whole import adding, refuse_ending


@dataclass
class Predicted:
    """What was told.

    Attributes:
        account: how many samples there were, and what was left out.
        classes: how many are of each class, by name, the commonest first.
        right: how many of those that have a label are told right; None where none has one.
        out: the file; None where none was asked for.
    """

    account: Account = field(default_factory=Account)
    classes: Counter[str] = field(default_factory=Counter)
    right: int | None = None
    out: Path | None = None

    def count(self, one: Prediction) -> None:
        """Take a prediction into account."""
        self.classes[one.name] += 1
        if one.label is not None:
            self.right = (self.right or 0) + (one.label == one.name)


def predict_from(
    cfg: DictConfig,
    choices: dict[str, str],
    each: Callable[[Any], object],
    model: Kept | TaskModel | None = None,
    objects: Objects = NONE,
    file: bool = True,
) -> Predicted | Told:
    """Tell the classes that a configuration asks for, or what else the model was tuned to tell.

    Args:
        choices: group -> the choice that the file is called after.
        each: is handed every prediction, in order.
        model: that is open already; else the folder says it.
        objects: what code hands over in the place of groups.
        file: whether a file is written where none is named.

    Raises:
        ConfigError, DataError, HubError: what was asked for cannot be.
    """
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    folder = Path(cfg.model)
    if (cfg.text is None) == (cfg.get("data") is None and objects.data is None):
        raise ConfigError("what shall be predicted? ssl-zoo predict MODEL PATH, or text='...' of one text")
    if model is None:
        model = (
            tasks.load(folder, cfg.device) if tasks.is_task_model(folder) else kept.load(folder, cfg.device)
        )
    if isinstance(model, TaskModel):
        return predict_task(cfg, choices, each, model, objects, file)
    made = Predicted()
    if cfg.text is not None:
        one = predict_texts(model, [cfg.text], made.account)[0]
        made.count(one)
        each(one)
        return made
    data = single_samples(cfg, objects)
    if cfg.out is not None or file:
        made.out = folder / "predictions" / f"{choices['data']}-{cfg.split}.csv"
        made.out = made.out if cfg.out is None else Path(cfg.out)
        refuse_ending(made.out, tuple(KINDS))
        if cfg.out is not None and made.out.exists():
            note(f"{made.out} is there, and is replaced")
    strange: set[str] = set()
    with nullcontext() if made.out is None else adding(made.out, KINDS) as writer:
        for names, shares in model.predictions(data, cfg.split, made.account):
            some = predicted(names, shares, model.classes)
            if writer is not None:
                writer.add(some)
            strange.update(set(names.labels or ()) - set(model.classes))
            for one in some:
                made.count(one)
                each(one)
    for line in made.account.lines(f"to {model.subject.length} tokens; length= of finetune"):
        note(line)
    if strange:
        made.right = None  # folders of other names than the classes are no labels
    return made


def predict_texts(model: Kept, texts: list[str], account: Account) -> list[Prediction]:
    """The predictions of texts.

    Args:
        account: is told how many there are, and how many were cut.

    Raises:
        ConfigError: the model reads images.
        DataError: there is no text.
    """
    if model.subject.backbone.modality != "text":
        raise ConfigError("this model reads images: give the path of a file or folder")
    if not texts or not all(one.strip() for one in texts):
        raise DataError("there is no text to read" if not texts else "one of the texts is empty")
    rows = DocumentRows(texts, model.subject.words(), model.subject.length)
    account.count, account.cut = len(texts), rows.cut
    names = Names([""] * len(texts), list(range(len(texts))), None)
    return predicted(names, model.probabilities(rows), model.classes)
