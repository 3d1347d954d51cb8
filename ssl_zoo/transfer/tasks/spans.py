"""Spans that the tags of words mark: persons, places, whatever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

MARKS = "BIESLU"


class Span(NamedTuple):
    """Its first word, the word after its last, and its kind."""

    start: int
    end: int
    kind: str


def marked(tag: str) -> bool:
    """Whether a tag marks a word of a span: B-X, I-X and their like."""
    return len(tag) > 2 and tag[1] == "-" and tag[0] in MARKS


def spans(tags: Sequence[str]) -> Iterator[Span]:
    """The spans in the order of their ends.

    B-X begins one and I-X goes on with it; I-X after anything but its own kind begins one, as in the script
    of CoNLL-2000. E-X or L-X ends a span, S-X or U-X is one by itself. Any other tag is outside.
    """
    start, kind, open_ = 0, "", False
    for i, tag in enumerate(tags):
        inside, mark, name = marked(tag), tag[:1], tag[2:]
        if not (inside and open_ and name == kind and mark in "IEL"):
            if open_:
                yield Span(start, i, kind)
            start, kind, open_ = i, name, inside
        if inside and mark in "ELSU":
            yield Span(start, i + 1, kind)
            open_ = False
    if open_:
        yield Span(start, len(tags), kind)
