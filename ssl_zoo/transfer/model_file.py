"""model.json: what a model that was tuned for a task is, beside its weights.

FOLDER/
  model.json   {"format": 1, "task": ..., and what the task needs}
  backbone/    as `hub.save` writes it
  tokenizer/   of what reads text
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssl_zoo.hub import HubError
from ssl_zoo.untrusted import Untrusted, read_json

NAME, FORMAT = "model.json", 1


def write_model_file(folder: Path, task: str, facts: dict[str, Any]) -> None:
    """Write FOLDER/model.json. The facts are plain JSON values."""
    about = {"format": FORMAT, "task": task, **facts}
    (folder / NAME).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


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
        raise HubError(f"the model in {folder} was tuned for {found!r}, and not for {task!r}")
    return about
