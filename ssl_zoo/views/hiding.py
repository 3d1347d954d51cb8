"""What may be hidden of rows of ids: a masking, and what a vocabulary says of its ids."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.views.masks import Masking


def mask_id(vocabulary: Vocabulary | None) -> int:
    """The id that hides a token.

    Raises:
        ValueError: the vocabulary has none.
    """
    if vocabulary is None or vocabulary.mask is None:
        raise ValueError(
            "tokens are hidden behind the mask token, and this tokenizer has none; "
            "take tokenizer=bpe, bytes or characters, or a BERT-like pretrained one"
        )
    return vocabulary.mask


class Hiding(nn.Module):
    """Chooses what is hidden of each row: ids that are text, outside of padding.

    Args:
        vocabulary: its special ids, the mask and the padding are never hidden.
        choose: chooses among the others (`views.masks`).

    Raises:
        ValueError: the vocabulary has no mask token.
    """

    special: Tensor  # (V,) bool
    continues: Tensor  # (V,) bool

    def __init__(self, vocabulary: Vocabulary | None, choose: Masking):
        super().__init__()
        self.choose, self.mask = choose, mask_id(vocabulary)
        assert vocabulary is not None
        self.size = vocabulary.size
        special = torch.zeros(vocabulary.size, dtype=torch.bool)
        special[list({*vocabulary.special, vocabulary.mask, vocabulary.pad})] = True
        continues = torch.zeros(vocabulary.size, dtype=torch.bool)
        continues[list(vocabulary.continues)] = True
        # Derived from the vocabulary: not part of the state.
        self.register_buffer("special", special, persistent=False)
        self.register_buffer("continues", continues, persistent=False)

    def forward(self, noise: Tensor, ids: Tensor, segments: Tensor | None) -> tuple[Tensor, Tensor]:
        """noise (B, T) uniform, ids, segments (B, T) -> at and valid, (B, K), as a `Masking` gives them."""
        candidates = ~self.special[ids]
        if segments is not None:
            candidates &= segments >= 0
        return self.choose(noise, ids, candidates, self.continues)
