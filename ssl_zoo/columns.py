"""Some columns of a table of embeddings, as a table of their own.

Two objectives that want different things of a word can each have a part of its vector: what one teaches, the
other does not overwrite, and a probe reads both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Columns(nn.Module):
    """Neighbouring columns of an embedding, which have its weights and give them gradients.

    Args:
        table: the embedding, (V, D).
        span: where they begin and end, as shares of D: (0, 0.5) is the first half.

    Raises:
        ValueError: shares that hold no column.
    """

    def __init__(self, table: nn.Embedding, span: Sequence[float]):
        super().__init__()
        begin, end = span
        self.table = table
        self.first, self.last = (round(share * table.embedding_dim) for share in (begin, end))
        if not (0 <= begin < end <= 1 and self.first < self.last):
            raise ValueError(
                f"columns={list(span)} of vectors of {table.embedding_dim} numbers hold none: take shares "
                "[begin, end] with 0 <= begin < end <= 1, such as [0, 0.5] for the first half"
            )
        self.num_embeddings, self.embedding_dim = table.num_embeddings, self.last - self.first

    @property
    def weight(self) -> Tensor:
        """(V, last - first), a view of the table's."""
        return self.table.weight[:, self.first : self.last]

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


def words_of(table: nn.Embedding, columns: Sequence[float] | None) -> nn.Embedding | Columns:
    """The table itself, or some of its columns where they are given (see `Columns`)."""
    return table if columns is None else Columns(table, columns)
