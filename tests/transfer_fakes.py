"""Tiny rows and backbones for the tests of transfer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Features, ImageBackbone, Layers, TokenBackbone, pool
from ssl_zoo.objectives._base import Batch


class FakeRows:
    """Rows held in memory, which note how often each was read."""

    unit, units_per_row = "images", 1

    def __init__(self, x: Tensor, y: np.ndarray | None, segments: Tensor | None = None):
        self.x, self.y, self.segments = x, y, segments
        self.classes = () if y is None else tuple(f"c{i}" for i in range(int(y.max()) + 1))
        self.reads = np.zeros(len(x), dtype=int)
        self.fingerprint = hashlib.sha256(x.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.x)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        at = torch.from_numpy(index)
        np.add.at(self.reads, index, 1)
        y = None if self.y is None else torch.from_numpy(self.y)[at]
        return Batch(self.x[at], None if self.segments is None else self.segments[at], y)


def images(count: int, seed: int, noise: float = 40.0) -> FakeRows:
    """Three classes of 8x8 images: the class is the colour channel that is bright."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = 100 + noise * rng.standard_normal((count, 3, 8, 8))
    x[np.arange(count), y] += 40
    return FakeRows(torch.from_numpy(x.clip(0, 255).astype(np.uint8)), y)


def documents(count: int, seed: int) -> FakeRows:
    """Two classes of padded rows of ids in 3..19: the class is whether 3..7 are frequent."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    x = torch.zeros(count, 12, dtype=torch.int64)
    segments = torch.full((count, 12), -1)
    for row in range(count):
        length = int(rng.integers(4, 9))
        low = 3 if y[row] else 8
        x[row, :length] = torch.from_numpy(rng.integers(low, low + 12, length))
        segments[row, :length] = 0
    return FakeRows(x, y, segments)


class MLP(ImageBackbone):
    """A stem, two blocks with dropout and batch norm, a final norm; the image is one token."""

    kind = "cnn"

    def __init__(self, dim: int = 16, size: tuple[int, int] = (8, 8)):
        super().__init__({"dim": dim})
        self.dim, self.image_size = dim, size
        self.stem = nn.Linear(3 * size[0] * size[1], dim)
        self.trunk = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.GELU(), nn.Dropout(0.1))
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        h = self.stem(x.flatten(1))
        after = []
        for block in self.trunk:
            h = h + block(h)
            after.append(h)
        h = self.norm(h)
        return Features(h[:, None], h, tuple(after) if layers else ())

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return 1, 1

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.trunk)


class Bag(TokenBackbone):
    """A bag of embedded ids, one linear block."""

    kind, max_length = "transformer", 10

    def __init__(self, dim: int = 8):
        super().__init__({"dim": dim})
        self.dim = dim
        self.table = nn.Embedding(20, dim)
        self.block = nn.Linear(dim, dim)

    def embed(self, x: Tensor) -> Tensor:
        return self.table(x)

    def encode(self, tokens, at=None, segments=None, *, order="both", grid=None, layers=None) -> Features:
        tokens = tokens + self.block(tokens).tanh()
        pooled = pool(tokens, segments)
        return Features(tokens, pooled, (pooled,) if layers else ())

    def blocks(self) -> Sequence[nn.Module]:
        return [self.block]
