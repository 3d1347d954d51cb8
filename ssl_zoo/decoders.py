"""Decoders: from the code of what an encoder saw of an image to what it did not see.

They make features, and stay in autocast's type; what compares them with something belongs to the loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def sine_positions(width: int, count: int) -> Tensor:
    """Fixed sines of places 0 to count - 1 (Vaswani et al. 2017, section 3.5): (count, width), width even."""
    return grid_positions(2 * width, count, 1)[:, :width]  # of a single column, what tells the row


def _refuse_sizes(what: str, width: int, depth: int, heads: int) -> None:
    if heads < 1 or width % heads or depth < 1:
        raise ValueError(
            f"a {what} of width {width}, {heads} heads and depth {depth} cannot be built: the heads divide "
            "the width, and the depth is 1 at least"
        )


def start_as_mae(decoder: nn.Module) -> None:
    """Weights of linear layers as MAE's code starts them (Glorot & Bengio 2010), and biases at 0."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


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
        _refuse_sizes("decoder", width, depth, heads)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, out)
        start_as_mae(self)

    def forward(self, tokens: Tensor, first: int = 0) -> Tensor:
        """(B, N, width) -> (B, N - first, out): tokens before `first` are read, but not decoded."""
        *early, last = self.blocks
        for block in early:
            tokens = block(tokens)
        return self.pixels(self.norm(last(tokens, first)))


class CrossBlock(nn.Module):
    """A pre-norm block whose rows read a code, and not each other (CrossMAE, Fu et al. 2024, section 3.2).

    Args:
        dim: width of the code. width: of the rows, in so many heads.
    """

    def __init__(self, dim: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(dim, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, code: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, K, width) and (B, S, dim) -> (B, K, width). seen: (B, K, S) bool, what rows read; None: all."""
        seen = None if seen is None else seen[:, None]
        q = self.q(self.norm1(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, K, d)
        k, v = self.kv(code).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, S, d)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class CrossDecoder(nn.Module):
    """CrossMAE's decoder (Fu et al. 2024, arXiv:2401.14391, section 3): each block reads a mix of its own of
    what the blocks of the encoder gave, and rows do not see each other. It starts as its authors' code does.

    Args:
        dim: width of the encoder. maps: how many of its layers are mixed.
        width, depth, heads: size of the decoder.
        out: how many values of each patch are predicted.

    Raises:
        ValueError: a width that does not split into so many heads, or no block.
    """

    def __init__(self, dim: int, maps: int, width: int, depth: int, heads: int, out: int):
        super().__init__()
        _refuse_sizes("decoder", width, depth, heads)
        self.mix = nn.Parameter(torch.randn(depth, maps) / maps**0.5)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.blocks = nn.ModuleList(CrossBlock(dim, width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, out)
        start_as_mae(self)

    def forward(self, asked: Tensor, layers: Sequence[Tensor]) -> Tensor:
        """Rows (B, K, width) that ask layers of the encoder (B, S, dim) -> (B, K, out)."""
        mixed = torch.einsum("jm,mbsd->jbsd", self.mix, torch.stack(tuple(layers)))
        for code, norm, block in zip(mixed, self.norms, self.blocks, strict=True):
            asked = block(asked, norm(code))
        return self.pixels(self.norm(asked))


class CrossPredictor(nn.Module):
    """CAPI's predictor (Darcet et al. 2025, arXiv:2502.08769, section 3): rows read a code, not each other.

    Args:
        width, depth, heads: its size.

    Raises:
        ValueError: a width that does not split into so many heads, or no block.
    """

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        _refuse_sizes("predictor", width, depth, heads)
        self.blocks = nn.ModuleList(CrossBlock(width, width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, asked: Tensor, code: Tensor) -> Tensor:
        """Rows (B, K, width) and a code (B, S, width) -> (B, K, width)."""
        for block in self.blocks:
            asked = block(asked, code)
        return self.norm(asked)


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
            raise ValueError(
                f"{depth} convolutions of widths {dim} and {width} in {groups} groups cannot be: the groups "
                "divide both widths, and the depth is 1 at least"
            )
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
