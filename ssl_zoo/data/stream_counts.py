"""What was found out of shards by reading each once, such as the number of their images: kept in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from ssl_zoo.data.rows import DataError
from ssl_zoo.data.schemes import is_address
from ssl_zoo.data.shelf import File

TOGETHER = 8  # shards that are read at the same time


class Counts:
    """What is known of files.

    Args:
        shelf: the folder of a shelf, within which it is kept.
        kind: of what is counted, where that is not images.
    """

    def __init__(self, shelf: Path, kind: str = ""):
        self.folder, self.kind = shelf / "counts", kind

    def of(self, file: File) -> Any:
        """What was kept of a file; None if nothing was."""
        try:
            return json.loads(self._place(file).read_text())
        except (OSError, ValueError):
            return None

    def keep(self, file: File, found: Any) -> None:
        """Keep what JSON holds.

        Raises:
            DataError: the folder cannot be written.
        """
        place = self._place(file)
        part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(found))
            part.replace(place)
        except OSError as error:
            raise DataError(
                f"{self.folder} cannot be written ({error}): choose another, SSL_ZOO_CACHE=FOLDER"
            ) from error

    def _place(self, file: File) -> Path:
        about = file.address
        if not is_address(about):  # written anew, it is counted anew
            stat = os.stat(about)
            about = f"{stat.st_size} {stat.st_mtime_ns} {about}"
        key = f"{self.kind} {about}" if self.kind else about
        return (
            self.folder / hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
        )
