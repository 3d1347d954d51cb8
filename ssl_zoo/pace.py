"""What is shown while something takes long: a bar on a terminal, else a line soon after the start and then
every ten seconds, with the time that is left."""

from __future__ import annotations

import time

from torch import Tensor
from tqdm import tqdm

from ssl_zoo.messages import heard, note

SOON, EVERY = 3.0, 10.0  # seconds to the first line, and between two


class Pace:
    """Tells when a line is due."""

    def __init__(self):
        self.next = time.perf_counter() + SOON

    def due(self) -> bool:
        """Whether a line is due now; the next one is then due `EVERY` seconds later."""
        now = time.perf_counter()
        if now < self.next:
            return False
        self.next = now + EVERY
        return True


def left(seconds: float) -> str:
    """A time that is left, for people: "8 s left", "2 min 5 s left", "3 h 20 min left"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s left"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s left"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min left"


class Progress:
    """Steps of one kind, of which the number is known.

    Args:
        what: is being done, such as "fine-tuning". total: steps.
    """

    def __init__(self, what: str, total: int):
        self.what, self.total, self.done, self.pace = what, total, 0, Pace()
        self.began = time.perf_counter()
        silent = None if heard() is None else True
        self.bar = tqdm(total=total, desc=what, unit="step", disable=silent, leave=False)

    def step(self, loss: Tensor) -> None:
        """Count one more step, whose loss is shown if a line is due."""
        self.done += 1
        self.bar.update()
        if not self.pace.due():
            return
        if not self.bar.disable:
            self.bar.set_postfix_str(f"loss {loss.item():.4g}")
            return
        each = (time.perf_counter() - self.began) / self.done
        note(
            f"{self.what}: step {self.done:,} of {self.total:,}, loss {loss.item():.4g}, "
            f"{left(each * (self.total - self.done))}"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *raised: object) -> None:
        self.bar.close()
