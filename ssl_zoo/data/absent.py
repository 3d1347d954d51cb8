"""What to say when a path is not there (most often the data folder is not named), and of what is left out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ssl_zoo.messages import note

NOTHING: Mapping[str, int] = MappingProxyType({})


def absent(what: str, spec: str, path: Path) -> str:
    """The message for `what` ("images", "text") wanted from `spec`, whose `path` does not exist."""
    missing = next((p for p in [*reversed(path.parents), path] if not p.exists()), path)
    data = os.environ.get("SSL_ZOO_DATA")
    if data and path.is_relative_to(data):
        hint = f"SSL_ZOO_DATA is {data}: set SSL_ZOO_DATA to the folder that holds the data sets"
    else:
        hint = "if it belongs to the data folder, set SSL_ZOO_DATA to that folder; else correct the path"
    return f"no {what} at {spec!r}: {str(missing)!r} does not exist ({hint})"


def counted(left: Mapping[str, int]) -> str:
    """What was left out, most first: "8 .heic, 2 broken links"."""
    most_first = sorted(left.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {what}" for what, count in most_first[:12]]
    if rest := sum(count for _, count in most_first[12:]):
        shown.append(f"{rest:,} others")
    return ", ".join(shown)


def left_out(spec: str, left: Mapping[str, int]) -> None:
    """Say what was left out of a source, if anything was."""
    if left:
        note(f"{spec}: left out {counted(left)}")


def holds_none(spec: str, left: Mapping[str, int]) -> str:
    """The message for a source without any image."""
    return f"{spec!r} holds no images" + (f", only {counted(left)}" if left else "")
