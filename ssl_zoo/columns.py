"""Some columns of a table of embeddings, as a table of their own.

Two objectives that want different things of a word can each have a part of its vector: what one teaches, the
other does not overwrite, and a probe reads both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Columns(nn.Module):
    """Columns first to last - 1 of an embedding, which have its weights and give them gradients.

    Args:
        table: the embedding, of V rows.
        span: first and last.

    Raises:
        ValueError: columns that the table does not have.
    """

    def __init__(self, table: nn.Embedding, span: Sequence[int]):
        super().__init__()
        self.table, self.first, self.last = table, *map(int, span)
        if not 0 <= self.first < self.last <= table.embedding_dim:
            raise ValueError(
                f"columns={list(span)} of vectors of {table.embedding_dim} numbers: take [first, last] with "
                f"0 <= first < last <= {table.embedding_dim}"
            )
        self.num_embeddings, self.embedding_dim = table.num_embeddings, self.last - self.first

    @property
    def weight(self) -> Tensor:
        """(V, last - first), a view of the table's."""
        return self.table.weight[:, self.first : self.last]

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


def words_of(table: nn.Embedding, columns: Sequence[int] | None) -> nn.Embedding | Columns:
    """The table itself, or some of its columns where they are given (see `Columns`)."""
    return table if columns is None else Columns(table, columns)
