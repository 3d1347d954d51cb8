"""What has been done of an answer, on the disk: each piece once, however often it is interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssl_zoo.pretrain.writing import write_atomically

FILE = "worth.json"


class OtherQuestion(ValueError):
    """The folder holds the answer to another question. The message says what differs, and what would work."""


class Diary:
    """The pieces of an answer in a folder.

    Args:
        folder: where they are kept.
        asked: what the answer depends on, as JSON has it.

    Attributes:
        pieces: name -> what the piece found, with its wall time in "seconds", or why it "failed".

    Raises:
        OtherQuestion: the folder has pieces of an answer to something else, or a damaged file.
    """

    def __init__(self, folder: Path, asked: dict[str, Any]):
        self.file, self.asked = folder / FILE, json.loads(json.dumps(asked))
        self.pieces: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            try:
                before = json.loads(self.file.read_bytes())
                asked_before, pieces = before["asked"], dict(before["pieces"])
            except (ValueError, KeyError, TypeError) as error:
                raise OtherQuestion(
                    f"{self.file} is damaged ({error}): take another folder (out=...), or remove this one"
                ) from error
            if differ := [key for key in self.asked if asked_before.get(key) != self.asked[key]]:
                told = ", ".join(
                    f"{key} was {asked_before.get(key)}, now {self.asked[key]}" for key in differ
                )
                raise OtherQuestion(
                    f"{folder} holds the answer to another question ({told}): give the words of then to "
                    "go on with it, or another folder (out=...)"
                )
            self.pieces = pieces
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    def piece(
        self, name: str, work: Callable[[], dict[str, Any]], expected: tuple[type[Exception], ...]
    ) -> Any:
        """What a piece found; done before, or now. An expected error is kept as its result."""
        if name not in self.pieces:
            began = time.perf_counter()
            try:
                found = work()
            except expected as error:
                found = {"failed": str(error) or type(error).__name__}
            self.pieces[name] = found | {"seconds": round(time.perf_counter() - began, 1)}
            self.write()
        return self.pieces[name]

    @property
    def seconds(self) -> float:
        """Wall time of all pieces, over all sessions."""
        return sum(one["seconds"] for one in self.pieces.values())

    def write(self) -> None:
        text = json.dumps({"asked": self.asked, "pieces": self.pieces}, indent=1)
        write_atomically(self.file, text.encode())
