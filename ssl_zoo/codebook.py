"""A codebook: numbers for continuous rows, each that of the nearest of K codes, found by k-means once."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_zoo.distributed import of_first
from ssl_zoo.heads import exact
from ssl_zoo.memory import Stash
from ssl_zoo.products import linear, outer


@exact
def nearest(rows: Tensor, codes: Tensor) -> Tensor:
    """The number of the code nearest to each row: rows (..., D), codes (K, D) -> (...) int64."""
    return (linear(rows, codes) - 0.5 * codes.square().sum(1)).argmax(-1)


@exact
def k_means(rows: Tensor, count: int, rounds: int) -> Tensor:
    """Codes of rows by Lloyd's algorithm (1982): rows (M, D) -> (count, D).

    It starts from rows at equal distances in the list. A code that no row is nearest to stays where it is.
    """
    codes = rows[torch.arange(count, device=rows.device) * len(rows) // count]
    for _ in range(rounds):
        # A product and not a sum by index, which would give other bits each time on a GPU. `one_hot` would
        # wait for the device to check the numbers.
        numbers = torch.arange(count, device=rows.device)
        member = (nearest(rows, codes)[:, None] == numbers).to(rows.dtype)  # (M, count)
        size = member.sum(0)[:, None]
        codes = torch.where(size > 0, outer(member, rows) / size.clamp_min(1), codes)
    return codes


class Once(Stash):
    """Notes rows until the first step is over, and makes something of them then, once.

    Attributes:
        fitted: whether that was done; part of the state, but read by the host alone.
    """

    def __init__(self):
        super().__init__()
        self.fitted = False

    def stash(self, rows: Tensor) -> None:
        """Note rows (N, ...) of this process, if nothing was made yet."""
        if not self.fitted:
            super().stash(rows)

    def first(self) -> Tensor | None:
        """The rows of the first step, of all processes, when it is over; None ever after."""
        rows = None if self.fitted else self.taken()
        self.fitted = self.fitted or rows is not None
        return rows

    def get_extra_state(self) -> Tensor:
        return torch.tensor(int(self.fitted))

    def set_extra_state(self, state: Tensor) -> None:
        self.fitted = bool(state)


class Codebook(Once):
    """Codes that are found on the rows of the first step, the same on all processes, and never change again.

    Before that they are drawn at random.

    Args:
        count: K, how many codes there are.
        dim: width of a row.
        rounds: of k-means.

    Attributes:
        codes: (K, dim) float32.

    Raises:
        ValueError: fewer than two codes; from `flush`, fewer rows than codes.
    """

    codes: Tensor

    def __init__(self, count: int, dim: int, rounds: int = 10):
        super().__init__()
        if count < 2:
            raise ValueError(f"one code tells nothing apart from anything: take two or more, not {count}")
        self.register_buffer("codes", torch.randn(count, dim))
        self.rounds = rounds

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (..., dim) -> the numbers of their codes (...) int64."""
        return nearest(rows, self.codes)

    @torch.no_grad()
    def flush(self) -> None:
        """Find the codes of what was stashed, the first time. To be called by `advance`, by all processes."""
        if (rows := self.first()) is None:
            return
        refuse_few(rows, len(self.codes))
        self.codes.copy_(of_first(k_means(rows, len(self.codes), self.rounds)))


def refuse_few(rows: Tensor, count: int) -> None:
    """Raise a ValueError where the rows of a first batch cannot make so many codes."""
    if len(rows) < count:
        raise ValueError(
            f"{count} codes cannot be found on the {len(rows)} rows of the first batch: take fewer codes, or "
            "a larger batch"
        )
