"""What a reading of text leaves out or finds odd: counted by kind, with the first place, and said once."""

from __future__ import annotations


class Tally:
    """Counts by kind, each with the place where it was met first."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, what: str, where: str) -> None:
        """Count one more of `what`, met at `where`."""
        before, first = self._found.get(what, (0, where))
        self._found[what] = before + 1, first

    def lines(self) -> list[str]:
        """A line for each kind, such as "3 null text(s) left out (first: a.jsonl, line 1)"."""
        return [f"{count:,} {what} (first: {where})" for what, (count, where) in self._found.items()]
