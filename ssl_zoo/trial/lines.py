"""What is tried on somebody's data: lines of the boards, those that did best first, or recipes by name."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from ssl_zoo.leaderboard.board import Board, BoardError, overrides
from ssl_zoo.leaderboard.find import find, recipe_of
from ssl_zoo.leaderboard.standings import Line, standings

# Modality -> the board that says what does well in minutes of a small machine.
BOARDS = {"image": "cifar10-small", "text": "text-small"}
# Keys of a recipe that are of the board's own data, time and machine.
OF_THE_BOARD = (
    "data",
    "budget",
    "trainer",
    "threads",
    "evaluate_every",
    "validation_limit",
    "save_every",
    "save_async",
    "seed",
)


@dataclass(frozen=True)
class Tried:
    """One way to pretrain.

    Attributes:
        name: short, for tables and folders.
        words: of `ssl-zoo pretrain`, without data and budget.
        why: where it comes from, in a sentence.
    """

    name: str
    words: tuple[str, ...]
    why: str


def count(minutes: float) -> int:
    """How many ways are tried in so many minutes: two to four."""
    return 2 if minutes < 10 else 3 if minutes < 45 else 4


def best(modality: str, most: int) -> list[Tried]:
    """The ways that did best on the board of a modality, each with another objective, best first."""
    board = find(BOARDS[modality])
    lines = standings(board).lines
    scored = [
        (score(line, board.primary), line) for line in lines if line.role == "pretrained" and line.records
    ]
    found: dict[str, Tried] = {}  # by objective
    for figure, line in sorted(scored, key=lambda pair: -pair[0]):
        objective = str(line.recipe.pretrain["objective"]).removesuffix("_small")
        if len(found) < most and objective not in found:
            found[objective] = of_board(board, line.name, f", with {100 * figure:.1f} % there")
    return list(found.values())


def score(line: Line, primary: str) -> float:
    """What a line is ranked by: its mean accuracy over the label budgets of a linear probe, few and many.

    primary: the measure that the board ranks by, where it has no probe of its own with few labels.
    """
    cells = line.cells.get("labels-linear") or line.cells.get(primary, ())
    return fmean(cell.mean for cell in cells) if cells else 0.0


def by_name(name: str) -> Tried:
    """A line of a board, BOARD/LINE, or a recipe of configs/experiment.

    Raises:
        BoardError: there is no such board or line.
    """
    board, slash, line = name.partition("/")
    if slash:
        return of_board(find(board), line)
    return Tried(name, (f"experiment={name}",), f"the recipe {name} (configs/experiment)")


def of_board(board: Board, line: str, figure: str = "") -> Tried:
    """A line of a board, without what the board says of its own data, time and machine.

    Raises:
        BoardError: the board has no such line, or the line does not pretrain.
    """
    recipe = recipe_of(board, line)
    if recipe.floor is not None:
        raise BoardError(f"{board.name}/{line} is a floor, and does not pretrain: name another line")
    settings = {**board.fixed, **recipe.pretrain}
    kept = {key: value for key, value in settings.items() if key.split(".")[0] not in OF_THE_BOARD}
    return Tried(line, tuple(overrides(kept)), f"the line {line} of the board {board.name}{figure}")
