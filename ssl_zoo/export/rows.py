"""The few rows that an export is tried on, and what this library reads in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.export._base import Reader, Source

# Short and long, several scripts, what special tokens look like, white space of all kinds, no word at all.
TEXTS = (
    "The cat sat on the mat.",
    "  Two spaces, a tab\tand\n\na blank line  ",
    "<pad> <sep> [CLS] [MASK] <mask> </s> <|endoftext|>",
    "naïve café — 東京 Привет 🙂 مرحبا",
    "UPPER lower 1234567890 !?;: x=y**2",
    "a",
    "word " * 300,
)


def images(backbone: ImageBackbone, count: int = 4) -> Tensor:
    """Made-up images (count, C, H, W) in [0, 1], of the size that the backbone reads: clouds, and one of
    noise."""
    made = torch.Generator().manual_seed(0)
    channels = len(backbone.normalise.mean)
    coarse = torch.rand(count, channels, 4, 4, generator=made)
    smooth = torch.nn.functional.interpolate(coarse, backbone.image_size, mode="bilinear")
    smooth[-1] = torch.rand(smooth.shape[1:], generator=made)
    return smooth


def ours(source: Source, texts: Sequence[str] = TEXTS) -> tuple[Tensor | list[str], Tensor]:
    """Rows, made-up images or texts, and what the backbone pools of them (B, D), or what a classifier says
    of them (B, C)."""
    with torch.no_grad():
        if source.backbone.modality == "image":
            rows = images(source.pictures())
            pooled = source.backbone(rows).pooled
        else:
            tokenizer, context = source.words()
            batch = DocumentRows(texts, tokenizer, context).read(np.arange(len(texts)))
            rows, pooled = list(texts), source.backbone(batch.x, batch.segments).pooled
        return rows, pooled if source.head is None else source.head.layer(pooled).softmax(1)


def difference(source: Source, reader: Reader) -> float:
    """The largest difference between what a peer reads and what this library does, in units of the largest
    feature, or of 1 where all are smaller. NaN where either is not finite or of another shape.

    All rows are read at once, and the first alone: a peer may take other ways where nothing is padded.
    """
    rows, mine = ours(source)
    with torch.no_grad():
        theirs = torch.cat([reader(rows), reader(rows[:1])]).to(mine.dtype)
    mine = torch.cat([mine, mine[:1]])
    if theirs.shape != mine.shape:
        return float("nan")
    return float((theirs - mine).abs().max() / mine.abs().max().clamp_min(1))
