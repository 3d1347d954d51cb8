"""The library's own text transformer: one class, causal or bidirectional by argument.

Pre-RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), QK-norm (Henry et al. 2020;
Dehghani et al. 2023), SwiGLU (Shazeer 2020) or ReLU^2 (So et al. 2021), grouped-query attention
(Ainslie et al. 2023). No layer has a bias. Output projections start at zero, so that the blocks of a fresh
network change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import (
    Features,
    Layers,
    Order,
    TokenBackbone,
    Vocabulary,
    check_ids,
    pool,
    segment_positions,
)
from ssl_zoo.backbones.attention import Plan
from ssl_zoo.backbones.fused import RMSNorm, Turn, rotary, squared_relu, unit_rotary


class Attention(nn.Module):
    """Attention of `heads` heads of queries that share `kv_heads` heads of keys and values."""

    def __init__(self, width: int, heads: int, kv_heads: int, dropout: float):
        super().__init__()
        self.heads, self.kv_heads, self.head = heads, kv_heads, width // heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.head, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, turn: Turn, plan: Plan) -> Tensor:
        """x (B, T, D) -> the same shape. turn: of the positions (`rotary`). plan: who attends to whom."""
        b, t, _ = x.shape
        qkv = self.qkv(x).view(b, t, self.heads + 2 * self.kv_heads, self.head)
        qk, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=2)  # (B, T, heads, head)
        q, k = unit_rotary(qk, turn).split([self.heads, self.kv_heads], dim=2)  # both in one pass
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        mixed = plan(q, k, v, self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with `inner` numbers between them, gated by SiLU (SwiGLU) or behind ReLU^2."""

    def __init__(self, width: int, inner: int, kind: str):
        super().__init__()
        self.kind = kind
        self.up = nn.Linear(width, inner * (2 if kind == "swiglu" else 1), bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        if self.kind == "swiglu":
            gate, h = h.chunk(2, dim=-1)
            return self.down(F.silu(gate) * h)
        return self.down(squared_relu(h))


class Block(nn.Module):
    """Attention and an MLP, each behind its norm and added to what enters it."""

    def __init__(self, width: int, heads: int, kv_heads: int, inner: int, kind: str, dropout: float):
        super().__init__()
        self.attention_norm, self.attention = RMSNorm(width), Attention(width, heads, kv_heads, dropout)
        self.mlp_norm, self.mlp = RMSNorm(width), MLP(width, inner, kind)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, turn: Turn, plan: Plan) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), turn, plan))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class TextTransformer(TokenBackbone):
    """A transformer over token ids.

    Args:
        vocabulary: what the ids mean.
        width, depth, heads: size of the trunk.
        kv_heads: heads of keys and values, dividing `heads`; None = `heads`.
        mlp: "swiglu" (8/3 of the width inside, rounded up to a multiple of 8) or "relu2" (4 times the width).
        dropout: rate in [0, 1), of the embeddings, of what each sublayer adds and of attention weights. While
            evaluating nothing is dropped.
        rope_base: wavelength base of the rotary positions.

    Raises:
        ValueError: sizes below 1 or that do not divide, another mlp, or a dropout out of range.
    """

    kind = "transformer"
    orders = frozenset({"both", "causal"})

    def __init__(
        self,
        vocabulary: Vocabulary | Sequence,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        kv_heads: int | None = None,
        mlp: Literal["swiglu", "relu2"] = "swiglu",
        dropout: float = 0.0,
        rope_base: float = 10_000.0,
    ):
        kv_heads = heads if kv_heads is None else kv_heads
        vocabulary = Vocabulary.of(vocabulary)
        if min(width, heads, kv_heads) < 1:
            raise ValueError(
                f"width {width}, heads {heads} and kv_heads {kv_heads} must be 1 or more (kv_heads: null "
                "has as many as heads)"
            )
        if width % heads or (width // heads) % 2:
            raise ValueError(
                f"width {width} does not split into {heads} heads of even size (rotary positions turn "
                f"pairs); take a width divisible by {2 * heads}"
            )
        if heads % kv_heads:
            raise ValueError(f"heads {heads} is not a multiple of kv_heads {kv_heads}")
        if mlp not in ("swiglu", "relu2"):
            raise ValueError(f"mlp {mlp!r} is not known; choose swiglu or relu2")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout {dropout} is not in [0, 1)")
        super().__init__(
            {
                "vocabulary": vocabulary.plain(),
                "width": width,
                "depth": depth,
                "heads": heads,
                "kv_heads": kv_heads,
                "mlp": mlp,
                "dropout": dropout,
                "rope_base": rope_base,
            }
        )
        self.dim, self.vocabulary = width, vocabulary
        self.head, self.rope_base = width // heads, rope_base
        inner = 4 * width if mlp == "relu2" else -(-8 * width // 24) * 8
        self.words = nn.Embedding(vocabulary.size, width)
        self.layers = nn.ModuleList(Block(width, heads, kv_heads, inner, mlp, dropout) for _ in range(depth))
        self.norm = RMSNorm(width)
        self.dropout = nn.Dropout(dropout)
        self._initialise()

    def _initialise(self) -> None:
        # Embeddings are small because the tied head reads them too: logits of a normalised state of
        # norm sqrt(width) then start near N(0, 0.02^2 * width), i.e. an almost uniform prediction.
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.layers:
            nn.init.zeros_(block.attention.out.weight)  # pyright: ignore
            nn.init.zeros_(block.mlp.down.weight)  # pyright: ignore

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
        self.refuse(order)
        if at is None:
            if segments is None:
                at = torch.arange(tokens.shape[1], device=tokens.device)[None]
            else:
                at = segment_positions(segments)
        turn = rotary(at, self.head, self.rope_base)
        plan = Plan(tokens, segments, order)
        x = self.dropout(tokens)
        after: list[Tensor] = []
        for block in self.layers:
            x = block(x, turn, plan)
            if layers is not None:
                after.append(x if layers == "tokens" else pool(x, segments))
        x = self.norm(x)
        return Features(x, pool(x, segments), tuple(after))

    def word_embedding(self) -> nn.Embedding:
        return self.words

    def smaller(self, fraction: float = 1.0, depth: int | None = None) -> TextTransformer:
        about: dict[str, Any] = dict(self.config)
        heads = max(1, round(about["heads"] * fraction))
        kv_heads = heads // math.gcd(heads, about["heads"] // about["kv_heads"])
        width = 2 * heads * max(1, round(about["width"] * fraction / (2 * heads)))
        about |= {"vocabulary": self.vocabulary, "width": width, "heads": heads, "kv_heads": kv_heads}
        about["depth"] = depth or about["depth"]
        return TextTransformer(**about)

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.layers)
