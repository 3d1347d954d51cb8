"""What an objective remembers from one step to the next: rows of earlier batches, or their mean.

`forward` only notes the rows of its batch (`stash`); `advance` writes them (`flush`). Accumulated parts,
several terms of a sum, and a loss on validation rows then cannot alter what is remembered, and a checkpoint
holds the memory of one step. A flush takes the rows of all processes, in the order of the undivided batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import outside
from ssl_zoo.distributed import everybody


class Stash(nn.Module):
    """Notes rows between two steps. In evaluation mode it notes nothing."""

    def __init__(self):
        super().__init__()
        self._noted: list[Tensor] = []  # this process's rows, by accumulated part; empty between two steps

    def stash(self, rows: Tensor) -> None:
        """Note this process's rows (N, ...) of a batch, or of an accumulated part of it, without gradient."""
        if self.training:
            self._noted.append(rows.detach())

    def taken(self) -> Tensor | None:
        """The noted rows of all processes, in the order of the undivided batch, or None. Forgets them."""
        noted, self._noted = self._noted, []
        return torch.cat([everybody(part) for part in noted]) if noted else None


class Queue(Stash):
    """The latest rows of earlier batches, first in, first out (MoCo: He et al. 2020, section 3.2).

    It starts empty and fills with the rows that arrive. Only rows that `valid` names may be scored.

    Args:
        size: how many rows are kept; it need not be a multiple of the batch.
        dim: width of a row.

    Attributes:
        rows: (size, dim) float32.
        at: where the next row is written, from 0; a tensor (), which the host never reads, as it would wait.
        filled: how many rows hold something; a tensor () as well.

    Raises:
        ValueError: a size below 1.
    """

    rows: Tensor
    at: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        if size < 1:
            raise ValueError(f"a queue holds at least one row, not {size}")
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("at", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def valid(self) -> Tensor:
        """Which rows hold something: (size,) bool."""
        return torch.arange(len(self.rows), device=self.rows.device) < self.filled

    @torch.no_grad()
    def flush(self) -> None:
        """Write what was stashed over the oldest rows. To be called by `advance`, by all processes."""
        new = self.taken()
        if new is None:
            return
        size, count = len(self.rows), len(new)
        place = (self.at + torch.arange(count, device=new.device)) % size
        self.rows[place[-size:]] = new[-size:].to(self.rows.dtype)
        self.at.copy_((self.at + count) % size)
        self.filled.copy_((self.filled + count).clamp_max(size))


class Centre(Stash):
    """The running mean of rows (DINO: Caron et al. 2021, eq. 4): c <- m c + (1 - m) mean of all rows.

    Args:
        size: width of a row.
        momentum: m, in [0, 1).

    Attributes:
        value: (size,) float32, c; it starts at 0.

    Raises:
        ValueError: a momentum out of range.
    """

    value: Tensor

    def __init__(self, size: int, momentum: float = 0.9):
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is in [0, 1), not {momentum}: at 1 the centre would never move")
        self.register_buffer("value", torch.zeros(size))
        self.momentum = momentum

    def stash(self, rows: Tensor) -> None:
        """Note the mean of this process's rows (N, size). All parts and processes must have as many rows."""
        super().stash(rows.mean(0, keepdim=True))

    @torch.no_grad()
    def flush(self) -> None:
        """Move towards the mean of what was stashed. To be called by `advance`, by all processes."""
        new = self.taken()
        if new is not None:
            self.value.lerp_(new.mean(0).to(self.value.dtype), 1 - self.momentum)


class Memory(nn.Module):
    """A row of numbers for every row of the training data, found by `Batch.index` (instance discrimination:
    Wu et al. 2018, arXiv:1805.01978, section 3.2).

    An objective that holds one reads "index" and has an argument `rows`, the number of rows of its data. When
    training is set up, `data.rows.refuse_lacking` compares it with the data.

    Args:
        size: how many rows the data has.
        shape: of what is kept for each; (crops, dim) for the features of several crops.

    Attributes:
        rows: (size, *shape) float32; 0 until something is written.
        filled: (size,) bool, which rows hold something.

    Raises:
        ValueError: a size below 1; from `read` and `stash`, the number of a row that the data does not have
            (found on a CPU alone; a GPU would be waited for).
    """

    rows: Tensor
    filled: Tensor

    def __init__(self, size: int, *shape: int):
        super().__init__()
        if size < 1:
            raise ValueError(f"a memory of the data's rows holds at least one, not {size}")
        self.register_buffer("rows", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.index, self.new = Stash(), Stash()

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The rows with the numbers index (N,) int64: (N, *shape), and which of them hold something: (N,)."""
        self._check(index)
        return self.rows[index], self.filled[index]

    def stash(self, index: Tensor, rows: Tensor) -> None:
        """Note rows (N, *shape) of this process's samples, whose numbers are index (N,) int64.

        The rows of a step have different numbers, as those of `data.plan.Plan` have; of a number that comes
        twice, one of its rows is kept.
        """
        self._check(index)
        self.index.stash(index)
        self.new.stash(rows)

    @torch.no_grad()
    def flush(self) -> None:
        """Write what was stashed in its places. To be called by `advance`, by all processes."""
        index, new = self.index.taken(), self.new.taken()
        if index is not None and new is not None:
            self.rows[index] = new.to(self.rows.dtype)
            self.filled[index] = True

    def _check(self, index: Tensor) -> None:
        if (wrong := outside(index, len(self.rows))) is not None:
            raise ValueError(
                f"a sample has the number {wrong}, and the objective remembers {len(self.rows)} rows: build "
                "it with rows= the number of rows of the data (objective.rows)"
            )
