"""Files that are whole or absent: they are written beside their place, and take it at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol


@contextmanager
def whole(*places: Path) -> Iterator[tuple[Path, ...]]:
    """Within, a path for each place to write to; afterwards what was written there lies at the places.

    Nothing is left where an error ends it, and what lay at the places before is still there.
    """
    places[0].parent.mkdir(parents=True, exist_ok=True)
    parts = tuple(place.with_name(f".{place.name}.{os.getpid()}.part") for place in places)
    try:
        yield parts
        for part, place in zip(parts, places, strict=True):
            part.replace(place)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


class Adding(Protocol):
    """Takes what is written, some of it at a time; `close` ends what it wrote, and leaves the file open."""

    def add(self, some: Any) -> None: ...

    def close(self) -> None: ...


@contextmanager
def adding(out: Path, kinds: Mapping[str, Callable[[BinaryIO], Adding]]) -> Iterator[Adding]:
    """Within, what is added is written into a file that takes the place `out` at the end.

    Args:
        kinds: ending -> what writes a file of it.

    Raises:
        ValueError: see `refuse_ending`.
    """
    refuse_ending(out, tuple(kinds))
    with whole(out) as (part,), open(part, "wb") as stream:
        made = kinds[out.suffix.lower()](stream)
        try:
            yield made
        finally:
            made.close()


def refuse_ending(out: Path, endings: tuple[str, ...]) -> None:
    """Raise ValueError for a file of a kind that is not written, or that a library is missing for."""
    ending = out.suffix.lower()
    if ending not in endings:
        raise ValueError(f"out={out}: its ending says how it is written, and is one of {', '.join(endings)}")
    if ending == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            other = out.with_suffix(endings[0])
            raise ValueError(
                f"out={out} needs pyarrow: pip install 'ssl-zoo[parquet]', or take out={other}"
            ) from error
