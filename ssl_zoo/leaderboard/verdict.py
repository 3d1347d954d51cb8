"""The verdict on a board: which of its lines are stale. `check` writes it; who shows a board reads it.

Finding out takes torch, the data and all configurations; reading the verdict takes none of them. So a verdict
says when it was made, and holds a hash of the files that it was made from: it is out of date as soon as one
of them changes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import ssl_zoo
from ssl_zoo.leaderboard.board import Board
from ssl_zoo.pretrain.writing import write_atomically

PACKAGE = Path(ssl_zoo.__file__).parent


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        made: when, ISO 8601.
        commit: of the code, where known.
        state: a hash of all files that the verdict depends on, without the data sets (see `state`).
        stale: line -> why its results are older than the code, the data or the recipe.
    """

    made: str
    commit: str | None
    state: str
    stale: Mapping[str, str]


def state(board: Board) -> str:
    """A hash of the files that a verdict depends on: the code, the configurations and the board."""
    places = [
        PACKAGE,
        next(one for one in (PACKAGE, PACKAGE.parent) if (one / "configs").is_dir()) / "configs",
    ]
    files = [file for place in places for kind in ("*.py", "*.yaml") for file in place.rglob(kind)]
    files += [board.results, board.folder / "board.yaml", *(board.folder / "recipes").glob("*.yaml")]
    made = hashlib.blake2b(digest_size=8)
    for file in sorted(files):
        if file.exists():
            made.update(hashlib.blake2b(file.read_bytes(), digest_size=8).digest())
    return made.hexdigest()


def write(board: Board, stale: Mapping[str, str], commit: str | None) -> bool:
    """Write what was found of a board to its folder; False where the folder cannot be written to."""
    made = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    found = Verdict(made, commit, state(board), stale)
    try:
        write_atomically(board.folder / "verdict.json", json.dumps(asdict(found), indent=1).encode())
    except OSError:
        return False
    return True


def read(board: Board) -> Verdict | None:
    """The verdict that was written last; None where there is none, or none that can be read."""
    try:
        return Verdict(**json.loads((board.folder / "verdict.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def format_verdict(board: Board, verdict: Verdict | None) -> str:
    """What a reader should know of a verdict besides the stale lines, in a sentence."""
    renew = f"ssl-zoo leaderboard check {board.name}"
    if verdict is None:
        return f"Whether its lines still stand was not checked: {renew}"
    commit = f", commit {verdict.commit[:10]}" if verdict.commit else ""
    when = f"Checked on {verdict.made}{commit}"
    if verdict.state != state(board):
        return f"{when}; code, configurations or results have changed since: {renew}"
    many = len(verdict.stale)
    stands = f"{many or 'no'} line{'s are' if many > 1 else ' is'} stale"
    return f"{when}, with the code, configurations and results as they are now: {stands}"
