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

from ssl_zoo.data.rows import DataError
from ssl_zoo.untrusted import Untrusted, read_json

NAME, FORMAT = "model.json", 1


def write_model_file(folder: Path, task: str, **facts: Any) -> None:
    """Write FOLDER/model.json. The facts are plain JSON values."""
    about = {"format": FORMAT, "task": task, **facts}
    (folder / NAME).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def is_model(folder: Path) -> bool:
    """Whether the folder holds a tuned model, and not a run of pretraining."""
    return (folder / NAME).is_file()


def read_model_file(folder: Path, task: str) -> dict[str, Any]:
    """What FOLDER/model.json says of a model for this task.

    Raises:
        DataError: there is none, it is damaged or of another version, or its model is for another task.
    """
    file = folder / NAME
    try:
        about = read_json(file)
    except (OSError, Untrusted) as error:  # both name it
        raise DataError(str(error)) from error
    if about.get("format") != FORMAT:
        raise DataError(
            f"{file}: format {about.get('format')} is not {FORMAT}: use the ssl_zoo that wrote it"
        )
    if about.get("task") != task:
        raise DataError(f"{folder} holds a model for {about.get('task')!r}, not for {task!r}")
    return about
