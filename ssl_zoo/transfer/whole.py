"""Files that are whole or absent: they are written beside their place, and take it at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
