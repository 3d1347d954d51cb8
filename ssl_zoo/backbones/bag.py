"""A bag of tokens: a vector for each id, and their mean; no token sees another, and no position counts.

fastText's text classifier reads texts so (Joulin et al. 2017, "Bag of tricks for efficient text
classification", eq. 1). It is the fastest text backbone that there is, and knows topics, not syntax.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ssl_zoo.backbones._base import Features, Layers, Order, TokenBackbone, Vocabulary, check_ids, pool


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
        pooled = pool(tokens, segments)
        only = {None: (), "pooled": (pooled,), "tokens": (tokens,)}
        return Features(tokens, pooled, only[layers])

    def word_embedding(self) -> nn.Embedding:
        return self.words

    def blocks(self) -> Sequence[nn.Module]:
        return ()
