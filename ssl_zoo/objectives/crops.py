"""Contrastive crops of documents: Contriever (Izacard et al. 2022, arXiv:2112.09118, sections 3.1 and 3.2).

Two stretches of one document, drawn independently, are the two views of it. They are drawn together and
pushed from the crops of all other documents of the global batch by the NT-Xent loss (ssl_zoo/contrast.py),

    L = - mean_i log( exp(z_i . z_i+ / T) / sum over k != i of exp(z_i . z_k / T) ),

of z, the normalised means of their tokens, without a projection. The paper takes the negatives from a queue
that a slow average of the network fills; here they are the other crops of the batch, so that batches should
hold hundreds of documents. Its code also deletes a tenth of the tokens of a crop, which is not done here, and
compares means as they are, where these are normalised.

Published training: AdamW, lr 5e-5, 20,000 steps of warm-up of 500,000, batch 2,048.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.columns import words_of
from ssl_zoo.contrast import nt_xent
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pairs, cosines
from ssl_zoo.tokens import mean_rows
from ssl_zoo.views.text import crops


class DocumentCrops(Objective[TokenBackbone]):
    """Of each packed row, the longest document is cropped: scraps at the ends of rows teach little.

    A crop is at most half of its document, so that those of a short one are short, and seldom the same.

    Args:
        backbone: any text backbone.
        low, high: tokens of a crop, drawn evenly (Contriever: 5 to 50 % of 256).
        temperature: of the softmax over the batch (Contriever: 0.05).
        through: "trunk" contrasts what the backbone makes of the crops; "words" the means of their word
            embeddings alone, which costs next to nothing and leaves a trunk to other terms of a `Sum`. A
            backbone without blocks is its words.
        columns: which part of the words is contrasted, as shares (`ssl_zoo.columns`); None: all of them.

    Raises:
        ValueError: lengths that are none, a temperature that is not positive, or another `through`; from
            `forward`, a batch of one document.
    """

    family = "contrastive"
    unit = "nats"
    takes = ("bag", "transformer", "encoder", "decoder")
    whole_batch = True
    tiny: ClassVar[dict[str, Any]] = {"low": 2, "high": 5}

    def __init__(
        self,
        backbone: TokenBackbone,
        low: int = 13,
        high: int = 128,
        temperature: float = 0.05,
        through: Literal["trunk", "words"] = "trunk",
        columns: Sequence[float] | None = None,
    ):
        super().__init__(backbone)
        if not 1 <= low <= high:
            raise ValueError(f"crops of {low} to {high} tokens are none: take 1 <= low <= high")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        if through not in ("trunk", "words"):
            raise ValueError(f"through={through!r} is not known; take trunk or words")
        self.low, self.high, self.temperature = low, high, temperature
        words = through == "words" or not backbone.blocks()
        if columns is not None and not words:
            raise ValueError(f"columns={list(columns)} are of words: take them with through=words")
        self.words = words_of(backbone.word_embedding(), columns) if words else None

    def forward(self, batch: Batch) -> Loss:
        x, segments = self.crops(batch)
        loss, found = nt_xent(self.read(x, segments), self.temperature)
        return Loss(loss, {"pair_found": found.detach()})

    def crops(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two crops of each row: ids and segments (2 B, high); rows i and B + i are of one document."""
        noise = rand(len(batch.x), 2, 2, device=batch.x.device).transpose(0, 1)  # (2, B, 2): views first
        return crops(batch.x, batch.segments, noise, self.low, self.high)

    def read(self, x: Tensor, segments: Tensor) -> Tensor:
        """What is contrasted of crops x, segments (2 B, T): (2 B, D)."""
        if self.words is None:
            return self.backbone(x, segments).pooled
        check_ids(x, self.words.num_embeddings)
        return mean_rows(self.words.weight, x, segments)

    def chance(self, rows: int) -> float:
        return math.log(2 * rows - 1)

    def show(self, batch: Batch) -> Pairs:
        x, segments = self.crops(batch)
        first, second = torch.where(segments >= 0, x, -1).chunk(2)
        note = "Two crops of each document, and how alike they are: the diagonal high, the rest low at best."
        return Pairs(note, first, second, cosines(*self.read(x, segments).chunk(2)))
