"""A bag of tokens: a vector for each id, and their mean; no token sees another, and no position counts.

fastText's text classifier reads texts so (Joulin et al. 2017, "Bag of tricks for efficient text
classification", eq. 1). It is the fastest text backbone that there is, and knows topics, not syntax.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Features, Layers, Order, TokenBackbone, Vocabulary, check_ids, pool
from ssl_zoo.products import HEAP
from ssl_zoo.tokens import mean_rows

LARGE = 2**26  # numbers of all tokens of a batch, from which on memory is looked after


def only(tokens: Tensor, pooled: Tensor, layers: Layers | None) -> Features:
    """Features of one layer: tokens (B, N, D), and their mean (B, D)."""
    return Features(tokens, pooled, {None: (), "pooled": (pooled,), "tokens": (tokens,)}[layers])


class TokenBag(TokenBackbone):
    """Vectors of token ids, and their mean.

    Args:
        vocabulary: what the ids mean.
        width: how many numbers the vector of an id has.

    Raises:
        ValueError: a width below 1.
    """

    kind = "bag"

    def __init__(self, vocabulary: Vocabulary | Sequence, width: int = 256):
        if width < 1:
            raise ValueError(f"the vectors of a bag need a width of 1 or more, not {width}")
        vocabulary = Vocabulary.of(vocabulary)
        super().__init__({"vocabulary": vocabulary.plain(), "width": width})
        self.dim, self.vocabulary = width, vocabulary
        self.words = nn.Embedding(vocabulary.size, width)
        nn.init.normal_(self.words.weight, std=0.02)  # as the transformer's

    def embed(self, x: Tensor) -> Tensor:
        check_ids(x, self.words.num_embeddings)
        return self.words(x)

    def encode(
        self,
        tokens: Tensor,
        at: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        order: Order = "both",
        grid: tuple[int, int] | None = None,
        layers: Layers | None = None,
    ) -> Features:
        """The tokens as they are, wherever they stand. They are the only layer."""
        self.refuse(order)
        return only(tokens, pool(tokens, segments), layers)

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        """As ids are embedded and encoded; the mean is taken without a copy of the vectors."""
        check_ids(x, self.words.num_embeddings)
        if x.is_cpu and x.numel() * self.dim >= LARGE:
            HEAP.shed()  # tokens, which go, lie between pooled vectors, which stay: new ones would not fit
        everywhere = torch.zeros_like(x) if segments is None else segments
        return only(self.words(x), mean_rows(self.words.weight, x, everywhere), layers)

    def word_embedding(self) -> nn.Embedding:
        return self.words

    def blocks(self) -> Sequence[nn.Module]:
        return ()
