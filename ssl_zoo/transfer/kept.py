"""A backbone with a head that names classes, kept in a folder: what stage 2 leaves for use.

model/
  model.json         format, task, classes, how inputs are read, how it was made and what it scored
  head.safetensors   weight (C, D) and bias (C,) on the pooled features
  backbone/          see `hub`
  tokenizer/         of texts
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ssl_zoo import hub
from ssl_zoo.data.rows import Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.transfer.embed import Account, Names, pieces
from ssl_zoo.transfer.features import evaluating, extract, place
from ssl_zoo.transfer.measures import Images, Subject
from ssl_zoo.transfer.protocols import linear_head
from ssl_zoo.untrusted import Untrusted, read_json

FORMAT = 1
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

    def write(part: Path) -> None:
        hub.save(model.subject.backbone, part / "backbone")
        save_file({k: v.contiguous() for k, v in model.head.state_dict().items()}, part / "head.safetensors")
        if model.subject.tokenizer is not None:
            model.subject.tokenizer.save(part / "tokenizer")
        about = {"format": FORMAT, "task": TASK, "classes": list(model.classes), **model.about}
        about["head_sha256"] = hub.digest(part / "head.safetensors")
        (part / "model.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
        os.chmod(part / "head.safetensors", (part / "model.json").stat().st_mode)

    hub.replace(folder, write)


def holds_model(folder: Path) -> bool:
    """Whether a folder holds what `save` wrote."""
    return (folder / "model.json").is_file()


def load(folder: Path, device: str = "auto") -> Kept:
    """Open a model.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        HubError: there is none, or a file is damaged.
    """
    if not holds_model(folder):
        run = folder if (folder / "config.yaml").is_file() else "RUN"
        raise hub.HubError(
            f"{folder} holds no model{' but a run' if run != 'RUN' else ''}; `ssl-zoo finetune run={run} "
            "data=LABELLED out=MODEL` makes one"
        )
    try:
        about = read_json(folder / "model.json")
        if about.get("format") != FORMAT or about.get("task") != TASK:
            raise Untrusted(
                f"model.json is of format {about.get('format')!r} and task {about.get('task')!r}, and this "
                f"ssl_zoo opens format {FORMAT} and task {TASK!r}"
            )
        classes, reads = about.get("classes"), about.get("reads")
        if not isinstance(classes, list) or not all(isinstance(one, str) for one in classes):
            raise Untrusted("model.json has no list of names of classes")
        if about.get("head_sha256") != hub.digest(folder / "head.safetensors"):
            raise Untrusted("head.safetensors is not what was saved (its SHA-256 differs)")
        state = load_file(folder / "head.safetensors")
        backbone = hub.load(folder / "backbone")
        if {name: tuple(one.shape) for name, one in state.items()} != {
            "weight": (len(classes), backbone.dim),
            "bias": (len(classes),),
        }:
            raise Untrusted("head.safetensors does not fit the classes and the backbone")
        length = reads.get("length") if isinstance(reads, dict) else None
        tokenizer = Tokenizer.load(folder / "tokenizer") if backbone.modality == "text" else None
    except (OSError, Untrusted, SafetensorError) as error:
        raise hub.HubError(f"the model in {folder} cannot be opened: {error}") from error
    head = linear_head(state["weight"], state["bias"]).eval()
    one = Subject(backbone, tokenizer, length if isinstance(length, int) else 128, place(device))
    named = ("format", "task", "classes", "head_sha256")
    return Kept(one, head, tuple(classes), {k: v for k, v in about.items() if k not in named})
