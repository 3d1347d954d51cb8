"""Heads that objectives put on a backbone: projections, prototypes, residual MLPs, scores of classes.

What compares features with something (logits, errors, distances) belongs to the loss, and is computed in
float32 by `exact`. What makes features (trunks, projections, decoders) stays in autocast's type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, Literal, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.norm import BatchNorm1d

P = ParamSpec("P")
R = TypeVar("R")
HALF = (torch.float16, torch.bfloat16)


def exact(loss: Callable[P, R]) -> Callable[P, R]:
    """A decorator: the function is computed in float32 whatever is around it; double precision stays.

    Half-precision tensors among its arguments become float32, and autocast is off inside: otherwise it would
    compute matrix products of them in half precision again. The first argument has to be a tensor.
    """

    @wraps(loss)
    def exactly(*args: P.args, **options: P.kwargs) -> R:
        with torch.autocast(args[0].device.type, enabled=False):  # pyright: ignore
            return loss(*map(_wide, args), **{key: _wide(x) for key, x in options.items()})  # pyright: ignore

    return exactly


def _wide(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype in HALF else x


def scoring_type(hidden: Tensor) -> torch.dtype:
    """The type that `exact` computes in: float32 for half precision, else the tensor's own."""
    return torch.promote_types(hidden.dtype, torch.float32)


@exact
def classification(features: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of linear logits, and the fraction of rows whose largest logit is the target's.

    Args:
        features: (N, D). weight: (C, D). bias: (C,). target: (N,) int64.
    """
    logits = F.linear(features, weight, bias)  # (N, C)
    return F.cross_entropy(logits, target), (logits.argmax(1) == target).float().mean()


def mlp(
    *widths: int,
    norm: Literal["batch", "layer"] | None = None,
    act: Literal["relu", "gelu"] = "relu",
    last: Literal["linear", "plain_linear", "batch", "plain_batch"] = "linear",
) -> nn.Sequential:
    """Linear layers of these widths, with a norm and an activation between them.

    Args:
        widths: of the input, of each layer between, and of the output: two at least.
        norm: the norm between the layers; "batch" is over the rows of all processes. A linear layer before a
            batch norm has no bias, which the norm would take away again.
        act: the activation between the layers.
        last: what comes last: a linear layer, with bias or without ("plain_linear"), or a batch norm behind
            it, with scale and shift ("batch") or without ("plain_batch").
    """
    layers: list[nn.Module] = []
    *between, (before, after) = pairwise(widths)
    for narrow, wide in between:
        layers.append(nn.Linear(narrow, wide, bias=norm != "batch"))
        if norm is not None:
            layers.append(BatchNorm1d(wide) if norm == "batch" else nn.LayerNorm(wide))
        layers.append(nn.ReLU(inplace=True) if act == "relu" else nn.GELU())
    layers.append(nn.Linear(before, after, bias=last == "linear"))
    if last.endswith("batch"):
        layers.append(BatchNorm1d(after, affine=last == "batch"))
    return nn.Sequential(*layers)


def bottleneck_head(dim: int, width: int, out: int, norm: Literal["batch"] | None = None) -> nn.Sequential:
    """DINO's projection (Caron et al. 2021, appendix C), also that of iBOT, DINOv2 and MSN: three linear
    layers with GELU between them, (N, dim) -> (N, out). As in their code, weights start as normal numbers of
    deviation 0.02, cut at 2, and biases at 0."""
    head = mlp(dim, width, width, out, norm=norm, act="gelu")
    for layer in (one for one in head if isinstance(one, nn.Linear)):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return head


@exact
def cosines(rows: Tensor, weight: Tensor) -> Tensor:
    """Cosines between rows (N, D) and the rows of a weight (K, D): (N, K)."""
    return F.linear(F.normalize(rows, dim=1), F.normalize(weight, dim=1))


class Prototypes(nn.Module):
    """Learnt directions that rows are compared with: (N, dim) -> cosines (N, count).

    Only the direction of a prototype counts, so nothing has to keep its norm at 1 (SwAV's code normalises
    the weights before each step).

    Args:
        dim: width of the rows. count: how many prototypes there are.
    """

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dim).uniform_(-1, 1) / dim**0.5)

    def forward(self, rows: Tensor, gate: Tensor | float = 1.0) -> Tensor:
        """gate: the share of their gradient that the prototypes get. At 0 they stand still, but they have a
        gradient, which is 0: training in several processes demands one."""
        weight = self.weight.detach() + gate * (self.weight - self.weight.detach())
        return cosines(rows, weight)


<<<<<<< HEAD
class DecoderBlock(nn.Module):
    """A pre-norm transformer block (Dosovitskiy et al. 2021, eq. 2 and 3) that may give fewer rows than it
    reads."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """All rows are attended to, and those from `first` on are given: (B, N, D) -> (B, N - first, D)."""
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q[:, :, first:], k, v)  # (B, heads, N - first, D / heads)
        x = x[:, first:] + self.out(mixed.transpose(1, 2).reshape(b, n - first, d))
        return x + self.mlp(self.norm2(x))


def grid_positions(width: int, rows: int, columns: int) -> Tensor:
    """Fixed sines and cosines of row and column (MoCo v3's 2-D form): (rows * columns, width).

    Raises:
        ValueError: a width that 4 does not divide.
    """
    if width % 4:
        raise ValueError(f"a decoder of width {width} cannot hold 2-D sine positions: use a multiple of 4")
    rate = 10_000 ** (-torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (y, x)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)


class PatchDecoder(nn.Module):
    """MAE's light decoder (He et al. 2022, section 3), initialised as MAE's code does.

    Args:
        width, depth, heads: size of the decoder.
        out: how many values of each patch are predicted.

    Raises:
        ValueError: a width that does not split into so many heads, or no block.
    """

    def __init__(self, width: int, depth: int, heads: int, out: int):
        super().__init__()
        if heads < 1 or width % heads or depth < 1:
            raise ValueError(f"a decoder of width {width}, {heads} heads and depth {depth} cannot be built")
        self.blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, out)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, first: int = 0) -> Tensor:
        """(B, N, width) -> (B, N - first, out): tokens before `first` are read, but not decoded."""
        *early, last = self.blocks
        for block in early:
            tokens = block(tokens)
        return self.pixels(self.norm(last(tokens, first)))


class CrossBlock(nn.Module):
    """A pre-norm transformer block whose rows read others, (B, M, D), and not each other (CrossMAE, Fu et al.
    2024, arXiv:2401.14391; CAPI)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.kv, self.out = (nn.Linear(width, wide * width) for wide in (1, 2, 1))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, read: Tensor) -> Tensor:
        """(B, N, D), (B, M, D) -> (B, N, D)."""
        rows = (self.q(self.norm1(x)), *self.kv(read).chunk(2, -1))
        q, k, v = (row.unflatten(2, (self.heads, -1)).transpose(1, 2) for row in rows)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class CrossDecoder(nn.Module):
    """A decoder of `CrossBlock`s, which draws each row as if it were the only one.

    Args:
        width, depth, heads: its size.

    Raises:
        ValueError: a width that does not split into so many heads, or no block.
    """

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads or depth < 1:
            raise ValueError(f"a decoder of width {width}, {heads} heads and depth {depth} cannot be built")
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(depth))
        self.read, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, read: Tensor) -> Tensor:
        """(B, N, width) rows that read (B, M, width) -> (B, N, width)."""
        read = self.read(read)
        for block in self.blocks:
            x = block(x, read)
        return self.norm(x)


class ConvDecoder(nn.Module):
    """The light decoder of data2vec 2.0 (Baevski et al. 2023, arXiv:2212.07525, section 3.3): convolutions of
    3 x 3, each with a layer norm without parameters, GELU, and a shortcut where the width stays.

    Args:
        dim: width of what is read and given.
        width, depth, groups: of the convolutions.

    Raises:
        ValueError: widths that do not divide into so many groups, or no convolution.
    """

    def __init__(self, dim: int, width: int, depth: int, groups: int):
        super().__init__()
        if min(depth, groups) < 1 or width % groups or dim % groups:
            raise ValueError(f"{depth} convolutions of widths {dim} and {width} in {groups} groups cannot be")
        self.layers = nn.ModuleList(
            nn.Conv2d(width if layer else dim, width, 3, padding=1, groups=groups) for layer in range(depth)
        )
        self.out = nn.Linear(width, dim)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens of all cells of a grid, row by row: (B, N, dim) -> the same."""
        x = tokens.unflatten(1, grid)  # (B, rows, columns, D)
        for layer in self.layers:
            y = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            y = F.gelu(F.layer_norm(y, y.shape[-1:]))
            x = x + y if x.shape == y.shape else y
        return self.out(x.flatten(1, 2))


=======
>>>>>>> main
class Residual(nn.Module):
    """A module whose input is added to its output."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def token_head(dim: int, width: int, depth: int, out: int) -> nn.Sequential:
    """Residual MLPs that read each token by itself, without biases (AIM, El-Nouby et al. 2024, section 3.2).

    (..., dim) -> (..., out), through `depth` blocks of this width, which are 4 times as wide inside.
    """
    blocks = [
        nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )
        for _ in range(depth)
    ]
    last = [nn.LayerNorm(width), nn.Linear(width, out, bias=False)]
    return nn.Sequential(nn.Linear(dim, width, bias=False), *map(Residual, blocks), *last)


def top_layers(layers: Sequence[Tensor], top: int) -> Tensor:
    """The mean of what the last `top` blocks give, (B, N, D) each, after a norm without parameters over D.

    A target for latent prediction (data2vec, Baevski et al. 2022, section 3.3): (B, N, D), float32 at least.
    """
    return torch.stack([F.layer_norm(h.to(scoring_type(h)), h.shape[-1:]) for h in layers[-top:]]).mean(0)


def top_layers_over_tokens(layers: Sequence[Tensor], top: int) -> Tensor:
    """As `top_layers`, but each feature is normed over the N tokens (instance norm), and the mean over D.

    The target of data2vec 2.0 for images (Baevski et al. 2023, arXiv:2212.07525, section 3.1).
    """
    last = torch.stack([h.to(scoring_type(h)) for h in layers[-top:]])  # (K, B, N, D)
    mean, var = last.mean(2, keepdim=True), last.var(2, correction=0, keepdim=True)
    y = ((last - mean) / (var + 1e-5).sqrt()).mean(0)
    return F.layer_norm(y, y.shape[-1:])
