"""Attention among packed documents: one function, two engines that must agree.

On CUDA in half precision and without dropout, documents are handed to torch's variable-length attention as
runs, so no work is done across documents. Everywhere else torch's scaled_dot_product_attention (SDPA) gets a
mask, or no mask where every row is one document. On a CPU, SDPA also visits what the mask hides, so long
causal rows are cut into bands.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import Order, attention_mask

try:  # torch >= 2.10; CUDA only
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # pragma: no cover - depends on the installed torch
    varlen_attn = None

# Under a causal mask 4 bands leave 5 of 8 products; in rows shorter than LONG, cutting costs what it saves.
LONG, BANDS = 256, 4


def runs(segments: Tensor) -> Tensor:
    """Where each run of equal segments starts, rows laid end to end: (B, T) -> (B * T + 1,) int32.

    The length does not depend on the segments, so nothing waits for the device: the starts come first, in
    order, and the rest is filled with B * T, which variable-length attention reads as empty runs.
    """
    b, t = segments.shape
    first = torch.ones_like(segments, dtype=torch.bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    index = torch.arange(b * t, device=segments.device)
    starts = torch.where(first.flatten(), index, b * t).sort().values
    return F.pad(starts, (0, 1), value=b * t).int()


class Plan:
    """How the tokens of one batch attend to each other.

    It is made once in each forward pass and shared by all blocks.

    Args:
        like: (B, T, D) tokens, of which device and type are read.
        segments: (B, T) document of each token, -1 = padding; None: every row is one document.
        order: who sees whom, as in `TokenBackbone.encode`.
    """

    def __init__(self, like: Tensor, segments: Tensor | None, order: Order):
        self.segments = segments
        self.order: Order = order
        given = isinstance(order, Tensor)
        self.causal = not given and order == "causal"
        self.mask: Tensor | None = None
        self.starts: Tensor | None = None
        if given:  # no kernel knows it: a mask holds it, among documents or not
            self.mask = attention_mask(torch.zeros_like(order) if segments is None else segments, order)
            return
        if segments is None:
            return
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else like.dtype
        half = dtype in (torch.float16, torch.bfloat16)
        if varlen_attn is not None and like.is_cuda and half:
            self.starts = runs(segments)
        else:
            self.mask = attention_mask(segments, order)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """q (B, H, T, d), k and v (B, G, T, d) with G dividing H -> (B, H, T, d).

        dropout: rate at which attention weights are dropped.
        """
        grouped = q.shape[1] != k.shape[1]
        if dropout and self.starts is not None and self.segments is not None:  # varlen_attn has no dropout
            self.mask, self.starts = attention_mask(self.segments, self.order), None
        if self.causal and self.mask is not None and q.device.type == "cpu" and q.shape[2] >= LONG:
            return self._in_bands(q, k, v, self.mask, dropout, grouped)
        if self.starts is None:
            causal = self.causal and self.mask is None
            return F.scaled_dot_product_attention(
                q, k, v, self.mask, dropout, is_causal=causal, enable_gqa=grouped
            )
        b, h, t, d = q.shape
        if grouped:
            k, v = (x.repeat_interleave(h // x.shape[1], 1) for x in (k, v))
        q, k, v = (x.transpose(1, 2).reshape(b * t, h, d) for x in (q, k, v))
        window = (-1, 0) if self.causal else (-1, -1)
        assert varlen_attn is not None
        out = varlen_attn(q, k, v, self.starts, self.starts, t, t, window_size=window)
        return out.reshape(b, t, h, d).transpose(1, 2)  # pyright: ignore[reportAttributeAccessIssue]

    def _in_bands(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float, grouped: bool
    ) -> Tensor:
        """Queries in bands, each against the keys up to its own end: SDPA would visit what lies beyond."""
        t = q.shape[2]
        cuts = [t * band // BANDS for band in range(BANDS + 1)]
        bands = [
            F.scaled_dot_product_attention(
                q[:, :, first:last],
                k[:, :, :last],
                v[:, :, :last],
                mask[..., first:last, :last],
                dropout,
                enable_gqa=grouped,
            )
            for first, last in pairwise(cuts)
        ]
        return torch.cat(bands, dim=2)
