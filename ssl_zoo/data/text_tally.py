"""What a reading of text leaves out or finds odd: counted by kind, with the first place, and said once."""

from __future__ import annotations


class Tally:
    """Counts by kind, each with the place where it was met first.

    Attributes:
        called: a path, and what people know it as: where a file that was fetched lies here is told to nobody.
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self.called: tuple[str, str] = ("", "")

    def add(self, what: str, where: str) -> None:
        """Count one more of `what`, met at `where`."""
        path, name = self.called
        before, first = self._found.get(what, (0, where.replace(path, name) if path else where))
        self._found[what] = before + 1, first

    def lines(self) -> list[str]:
        """A line for each kind, such as "3 null text(s) left out (first: a.jsonl, line 1)"."""
        return [f"{count:,} {what} (first: {where})" for what, (count, where) in self._found.items()]
