"""What was asked of somebody's data, what was done, and what was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_zoo.trial.lines import Tried
from ssl_zoo.trial.verdict import Figure, Verdict


@dataclass(frozen=True)
class Asked:
    """What is looked at.

    Attributes:
        name: of the data, as folders are called; title: as people do. modality: "image" or "text".
        fed, labelled: words of the data for pretraining and for measuring.
        classes: how many. rows: labelled training rows. chosen_on: labelled validation rows.
        budgets: label budgets, fewest first, the last all.
        all_labels: labelled training rows a class, in the mean.
    """

    name: str
    title: str
    modality: str
    fed: tuple[str, ...]
    labelled: tuple[str, ...]
    classes: int
    rows: int
    chosen_on: int
    budgets: tuple[int | float | None, ...]
    all_labels: float


@dataclass(frozen=True)
class Way:
    """A way of pretraining and how far it came.

    Attributes:
        tried: what it is. run: its folder. minutes: of pretraining; 0 for public weights as they are.
        pretraining: what the piece found: steps, samples, flops, seconds; or why it failed.
        backbone: what the run was built of, as text: ways with the same one share their random weights.
    """

    tried: Tried
    run: Path
    minutes: float
    pretraining: dict[str, Any]
    backbone: str = ""

    @property
    def failed(self) -> str:
        return self.pretraining.get("failed", "")


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        asked: what was looked at. ways: all that were pretrained. figures: of all ways and floors.
        verdict: what is recommended. left: what was left out, and why.
        commands: how to go on. seconds: wall time of it all.
        folder: where it is kept. page: the HTML file.
    """

    asked: Asked
    ways: tuple[Way, ...]
    figures: tuple[Figure, ...]
    verdict: Verdict
    left: tuple[str, ...]
    commands: tuple[str, ...]
    seconds: float
    folder: Path
    page: Path

    def lines(self) -> Iterator[str]:
        """The answer in sentences for people, and how to go on."""
        yield from self.verdict.sentences
        yield from (f"Left out: {one}" for one in self.left)
        yield f"It took {self.seconds / 60:.1f} minutes. The page: {self.page}"
        yield from (f"next: {command}" for command in self.commands)
