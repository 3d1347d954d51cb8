"""Heads that only the objective needs: projections, pixel decoders, and the score of token ids."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_zoo.backbones._base import TokenBackbone


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def _fused():
    try:  # torch >= 2.13
        from torch.nn import LinearCrossEntropyOptions
        from torch.nn.functional import linear_cross_entropy
    except ImportError:
        return None
    options = LinearCrossEntropyOptions()
    return lambda h, w, y, b: linear_cross_entropy(h, w, y, linear_bias=b, reduction="none", options=options)


FUSED = _fused()
SMALL = 2**25  # logits (rows * ids) up to which keeping them is faster: 128 MiB in fp32
CHUNK = 2**22  # logits held at once beyond that


def token_cross_entropy(hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
    """-log p(target) of softmax(hidden @ weight.T + bias), without keeping the logits.

    hidden (N, D), weight (V, D), target (N,) int64, bias (V,) -> (N,).
    Where the logits are small the plain product; else torch's fused function, or, on older torch,
    chunks whose logits are computed again in the backward pass.
    """
    if hidden.shape[0] * weight.shape[0] <= SMALL:
        return F.cross_entropy(F.linear(hidden, weight, bias), target, reduction="none")
    if FUSED is not None:
        return FUSED(hidden, weight, target, bias)
    return _chunked(hidden, weight, target, bias)


def _chunked(hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None) -> Tensor:
    def score(h: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(h, weight, bias), y, reduction="none")

    rows = max(1, CHUNK // weight.shape[0])
    parts = [
        checkpoint(score, h, y, use_reentrant=False)
        for h, y in zip(hidden.split(rows), target.split(rows), strict=True)
    ]
    return torch.cat(parts)  # pyright: ignore[reportArgumentType]


def output_matrix(backbone: TokenBackbone) -> nn.Embedding | nn.Linear:
    """The (V, D) matrix that scores ids: tied to the word embedding where the widths agree."""
    words = backbone.word_embedding()
    if words.embedding_dim == backbone.dim:
        return words
    return nn.Linear(backbone.dim, words.num_embeddings, bias=False)


class PatchDecoder(nn.Module):
    """MAE's light decoder (He et al. 2022, §3): blocks of timm's pre-norm shape, without timm.

    Args:
        width, depth, heads: size of the decoder.
        out: values per patch to predict.
    """

    def __init__(self, width: int, depth: int, heads: int, out: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, out)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.pixels(self.norm(tokens))
