"""Smaller text trunks beside a backbone, which read vectors."""

from __future__ import annotations

from torch import nn

from ssl_zoo.backbones._base import TokenBackbone


def wordless(backbone: TokenBackbone, fraction: float = 1.0, depth: int | None = None) -> TokenBackbone:
    """`backbone.smaller`, for `encode` alone: of its words one row is kept, and does not learn.

    Raises:
        TypeError: the backbone cannot be built in another size.
    """
    trunk = backbone.smaller(fraction, depth)
    words = trunk.word_embedding()
    words.weight = nn.Parameter(words.weight[:1].detach().clone(), requires_grad=False)
    return trunk
