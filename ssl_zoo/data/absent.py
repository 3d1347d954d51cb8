"""What to say when a path is not there: most often the data folder is not named."""

from __future__ import annotations

import os
from pathlib import Path


def absent(what: str, spec: str, path: Path) -> str:
    """The message for `what` ("images", "text") wanted from `spec`, whose `path` does not exist."""
    missing = next((p for p in [*reversed(path.parents), path] if not p.exists()), path)
    data = os.environ.get("SSL_ZOO_DATA")
    if data and path.is_relative_to(data):
        hint = f"SSL_ZOO_DATA is {data}: set SSL_ZOO_DATA to the folder that holds the data sets"
    else:
        hint = "if it belongs to the data folder, set SSL_ZOO_DATA to that folder; else correct the path"
    return f"no {what} at {spec!r}: {str(missing)!r} does not exist ({hint})"
