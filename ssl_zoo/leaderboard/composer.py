"""What a board asks of whoever turns KEY=VALUE overrides into configurations and objects.

The command hands one in (`compose.boards`), so that nothing here knows how configurations are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ssl_zoo.data.images import ImageData
from ssl_zoo.data.rows import Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.leaderboard.board import Recipe
from ssl_zoo.transfer.evaluate import Protocol as Scoring
from ssl_zoo.transfer.measures import Images, Subject
from ssl_zoo.transfer.report import Result

Config = Any  # a composed configuration, or a part of one: its keys are attributes
Trust = frozenset[str]  # full names of classes outside this library that a recipe may build


class Setting(NamedTuple):
    """One point of a measure.

    Attributes:
        protocol: of that point, with its number of steps.
        steps: how many; None where the protocol decides.
        how: further arguments of `transfer.evaluate.evaluate`.
    """

    protocol: Scoring
    steps: int | None
    how: dict[str, Any]


class Composer(Protocol):
    """Makes configurations and objects. All methods raise errors for overrides that mean nothing, and for
    those that name what may not be built."""

    def check(self, verb: str, overrides: Sequence[str]) -> None:
        """Refuse an override of "pretrain" or "evaluate" that means nothing."""
        ...

    def pretraining(self, overrides: Sequence[str], trust: Trust | None) -> Config:
        """The configuration of `ssl-zoo pretrain`. trust: None where nothing of it is built."""
        ...

    def evaluation(self, overrides: Sequence[str]) -> Config:
        """The configuration of `ssl-zoo evaluate`."""
        ...

    def settled(self, config: Config) -> dict[str, Any]:
        """A configuration as plain values, without what may differ between sessions and machines."""
        ...

    def plain(self, part: Config) -> Any:
        """A part of a configuration as plain values."""
        ...

    def targets(self, part: Config) -> list[str]:
        """The full name of every class and function that a part of a configuration builds."""
        ...

    def foreign(self, overrides: Sequence[str]) -> Trust:
        """The full names among overrides that are not part of this library."""
        ...

    def build(self, part: Config) -> Any:
        """The object that a part of a configuration describes."""
        ...

    def find_objective(self, config: Config, trust: Trust) -> None:
        """Refuse an objective that cannot be imported, or does not take its arguments."""
        ...

    def pretrain(self, config: Config, where: Path) -> None:
        """Stage 1, in a folder; what was interrupted there goes on. Exits where a signal stops it."""
        ...

    def draw(self, config: Config, where: Path, data: Images | TextData, seed: int, recipe: Recipe) -> None:
        """The backbone with random weights, or with the word vectors of the floor that a recipe names, in a
        folder as pretraining would leave it."""
        ...

    def subject(self, where: Path, device: str) -> Subject:
        """The backbone in a folder, ready to be measured."""
        ...

    def splits(self, config: Config, data: ImageData | TextData, subject: Subject) -> tuple[Rows, Rows, Rows]:
        """Rows with labels to train on, to choose on, and to score: of the test split, or of the validation
        split where the measure says score=validation."""
        ...

    def settings(self, config: Config, protocol: Scoring, subject: Subject | None) -> Iterator[Setting]:
        """The points of a measure, large label budgets first. subject: None where there is no backbone."""
        ...

    def tfidf(self, config: Config, data: TextData, how: dict[str, Any]) -> Result:
        """The floor for labelled texts. how: of a `Setting`."""
        ...
