"""`ssl-zoo leaderboard show`, `site` and `docs`: the boards as a table, as pages, and in docs/."""

from __future__ import annotations


def show(words: list[str], options: dict[str, str]) -> None:
    print(words)


def site(words, options): ...
def docs(words, options): ...
