"""How the processes of a group know, before they can talk, that the others are still getting ready.

Processes that meet wait for each other as long as the group's time-out, half an hour, and one of them may
build a store on its own node for longer. So nobody goes there before all are ready: each but the first writes
every few seconds how it is,

    RUN/.session-ID.RANK   "TOKEN number", "TOKEN ready" or "TOKEN failed REASON"

with the token of the session, and the first process reads it. Clocks are not compared: what changes, lives.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from ssl_zoo.pretrain.writing import write_atomically

BEAT = 5.0  # seconds between two signs
READY, FAILED = "ready", "failed"


class Heart(threading.Thread):
    """Writes, until it is stopped, that this process lives.

    Args:
        file: of this process. token: of the session.
    """

    def __init__(self, file: Path, token: str):
        super().__init__(daemon=True)
        self.file, self.token, self.state = file, token, ""
        self.wake, self.over = threading.Event(), False
        self.start()

    def run(self) -> None:
        number = 0
        while not self.over:
            number += 1
            self.write(self.state or str(number))
            self.wake.wait(BEAT)
            self.wake.clear()

    def write(self, what: str) -> None:
        with contextlib.suppress(OSError):  # the next sign may come through
            write_atomically(self.file, f"{self.token} {what}".encode(errors="backslashreplace"))

    def ready(self) -> None:
        """This process has all that it needs to meet the others."""
        self.state = READY
        self.wake.set()

    def stop(self, failure: str = "") -> None:
        """No more signs; with a failure, the last one tells of it."""
        self.over = True
        self.wake.set()
        self.join()
        if failure:
            self.write(f"{FAILED} {failure}")
        else:
            self.file.unlink(missing_ok=True)


def assembled(files: dict[int, Path], token: str, patience: float) -> str | None:
    """Wait until all of these processes, by their ranks, are ready. Returns why that cannot be, if so.

    Args:
        patience: seconds without a new sign of a process.
    """
    heard: dict[int, tuple[str, float]] = dict.fromkeys(files, ("", time.monotonic()))
    pause = 0.02
    while heard:
        for rank, (before, since) in list(heard.items()):
            now, said = time.monotonic(), _read(files[rank], token)
            if said == READY:
                del heard[rank]
            elif said.startswith(FAILED):
                return f"process {rank} of this group ended: {said.removeprefix(FAILED).strip()}"
            elif said != before:
                heard[rank] = said, now
            elif now - since > patience:
                return f"there was no sign of process {rank} of this group for {patience:g} seconds"
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    return None


def _read(file: Path, token: str) -> str:
    """What a process says in this session; "" where it has said nothing."""
    try:
        of, _, said = file.read_text(encoding="utf-8").partition(" ")
    except OSError:
        return ""
    return said if of == token else ""
