"""model.json: what a model that was tuned for a task is, beside its weights.

FOLDER/
  model.json         {"format": 1, "task": ..., and what the task needs}
  head.safetensors   of the head, where the model has one beside the backbone
  backbone/          as `hub.save` writes it
  tokenizer/         of what reads text
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_zoo import hub
from ssl_zoo.hub import HubError
from ssl_zoo.untrusted import Untrusted, read_json

if TYPE_CHECKING:
    from ssl_zoo.transfer.measures import Subject

NAME, FORMAT = "model.json", 1
HEAD, DIGEST = "head.safetensors", "head_sha256"


def write_model_file(folder: Path, task: str, facts: dict[str, Any]) -> None:
    """Write FOLDER/model.json. The facts are plain JSON values."""
    about = {"format": FORMAT, "task": task, **facts}
    (folder / NAME).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save_model(one: Subject, head: nn.Module, folder: Path, task: str, facts: dict[str, Any]) -> None:
    """Write a backbone with its tokenizer and a head into a folder, which is whole or absent.

    Args:
        facts: plain JSON values, for model.json, which has the SHA-256 of the head besides.
    """

    def write(part: Path) -> None:
        hub.save(one.backbone, part / "backbone")
        save_file({name: value.contiguous() for name, value in head.state_dict().items()}, part / HEAD)
        if one.tokenizer is not None:
            one.tokenizer.save(part / "tokenizer")
        write_model_file(part, task, {DIGEST: hub.digest(part / HEAD), **facts})
        shutil.copymode(part / NAME, part / HEAD)  # which only its owner may read

    hub.replace(folder, write)


def read_head(folder: Path, about: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the head in a folder. Its digest is taken out of `about`, what model.json says.

    Raises:
        Untrusted: they are not those that were saved.
        OSError, SafetensorError: there are none, or the file is damaged.
    """
    if about.pop(DIGEST, None) != hub.digest(folder / HEAD):
        raise Untrusted(f"{HEAD} is not what was saved (its SHA-256 differs)")
    return load_file(folder / HEAD)


def holds_model(folder: Path) -> bool:
    """Whether a folder holds a tuned model, and not a run of pretraining."""
    return (folder / NAME).is_file()


def task_of(folder: Path) -> str | None:
    """What the model in a folder was tuned for; None where its file is damaged."""
    try:
        return str(read_json(folder / NAME).get("task"))
    except (OSError, Untrusted):
        return None


def read_model_file(folder: Path, task: str) -> dict[str, Any]:
    """The facts in FOLDER/model.json, of a model for this task.

    Raises:
        HubError: there is none, it is damaged or of another format, or its model is for another task.
    """
    file = folder / NAME
    try:
        about = read_json(file)
    except (OSError, Untrusted) as error:  # both name it
        raise HubError(str(error)) from error
    if about.pop("format", None) != FORMAT:
        raise HubError(f"{file} is not of format {FORMAT}: use the ssl_zoo that wrote it")
    if (found := about.pop("task", None)) != task:
        verb = "generate" if found == "completion" else "predict"
        raise HubError(
            f"the model in {folder} was tuned for {found!r}, and not for {task!r}: ssl-zoo {verb} asks it"
        )
    return about
