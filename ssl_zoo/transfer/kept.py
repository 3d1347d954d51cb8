"""A backbone with a head that names classes, kept in a folder: what stage 2 leaves for use.

model/
  model.json         format, task, classes, how inputs are read, how it was made and what it scored
  head.safetensors   weight (C, D) and bias (C,) on the pooled features
  backbone/          see `hub`
  tokenizer/         of texts
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from ssl_zoo import hub
from ssl_zoo.data.rows import Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.transfer.embed import Account, Names, pieces
from ssl_zoo.transfer.features import evaluating, extract, place
from ssl_zoo.transfer.measures import Images, Subject
from ssl_zoo.transfer.model_file import NAME, holds_model, read_head, read_model_file, save_model
from ssl_zoo.transfer.protocols import linear_head
from ssl_zoo.untrusted import Untrusted

TASK = "classes"


@dataclass
class Kept:
    """A model that tells classes apart.

    Attributes:
        subject: the backbone, how it reads text, and where it runs.
        head: (D -> C), on the pooled features.
        classes: their names, in the order of the head's rows.
        about: how inputs are read ("reads"), how it was made ("made") and what it scored ("scores"), as plain
            JSON values.
    """

    subject: Subject
    head: nn.Linear
    classes: tuple[str, ...]
    about: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, rows: Rows) -> np.ndarray:
        """The probability of each class: (N, C) float32, rows that sum to 1."""
        with torch.no_grad():
            pooled = extract(self.subject.backbone, rows, device=self.subject.device).pooled
            return self.head(pooled).softmax(1).numpy()

    def predictions(
        self, data: Images | TextData, split: str, account: Account
    ) -> Iterator[tuple[Names, np.ndarray]]:
        """The names and probabilities (n, C) of a split, piece by piece; see `embed.pieces`."""
        with evaluating(self.subject.backbone, self.subject.device):
            for names, rows in pieces(self.subject, data, split, account):
                yield names, self.probabilities(rows)


def save(model: Kept, folder: Path) -> None:
    """Write a model into a folder, which is whole or absent."""
    save_model(model.subject, model.head, folder, TASK, {"classes": list(model.classes), **model.about})


def load(folder: Path, device: str = "auto") -> Kept:
    """Open a model.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        HubError: there is none, or a file is damaged.
    """
    if not holds_model(folder):
        of_run = (folder / "config.yaml").is_file()
        what = (
            "holds no model but a run" if of_run else "holds no model" if folder.exists() else "is not there"
        )
        raise hub.HubError(
            f"{folder} {what}; `ssl-zoo finetune run={folder if of_run else 'RUN'} data=LABELLED out=MODEL` "
            "makes a model"
        )
    about = read_model_file(folder, TASK)
    try:
        classes, reads = about.pop("classes", None), about.get("reads")
        if not isinstance(classes, list) or not all(isinstance(one, str) for one in classes):
            raise Untrusted(f"{NAME} has no list of names of classes")
        state = read_head(folder, about)
        backbone = hub.load(folder / "backbone")
        shapes = {name: tuple(one.shape) for name, one in state.items()}
        if shapes != {"weight": (len(classes), backbone.dim), "bias": (len(classes),)}:
            raise Untrusted("head.safetensors does not fit the classes and the backbone")
        tokenizer = Tokenizer.load(folder / "tokenizer") if backbone.modality == "text" else None
    except (OSError, Untrusted, SafetensorError) as error:
        raise hub.HubError(f"the model in {folder} cannot be opened: {error}") from error
    length = reads.get("length") if isinstance(reads, dict) else None
    head = linear_head(state["weight"], state["bias"]).eval()
    one = Subject(backbone, tokenizer, length if isinstance(length, int) else 128, place(device))
    return Kept(one, head, tuple(classes), about)
