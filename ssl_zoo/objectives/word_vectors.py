"""Word vectors by negative sampling (word2vec: Mikolov et al. 2013, arXiv:1310.4546, eq. 4; arXiv:1301.3781).

    L = (1 / P) sum over centres i, and contexts j within r_i, of
        -log s(u_i . v_j) - k mean over negatives n of log s(-u_i . v_n)

with u the backbone's vectors, v a second table that is thrown away, and r_i drawn evenly from 1 to the
window. CBOW predicts the centre from the mean of its contexts, once a centre. Negatives are drawn by
frequency to the power of 3/4, and frequent words are left out at random, as in the paper: with probability
1 - sqrt(threshold / frequency). What is left moves together, so that a window reaches further (word2vec.c).

word2vec draws k negatives for each pair; here all pairs of a step share a larger draw. Frequencies are
counted while training. P is rows x length x (window + 1), the pairs on average, and for CBOW rows x length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.columns import words_of
from ssl_zoo.contrast import negative_sampling
from ssl_zoo.memory import Stash
from ssl_zoo.noise import rand, rand_shared
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.views.text import moved_up, neighbours, stretches

STRETCH = 32  # centres whose scores are one product


class WordVectors(Objective[TokenBackbone]):
    """Args:
        backbone: a bag of tokens.
        predicts: "contexts" of a centre (skip-gram), or the "centre" of contexts (CBOW).
        window: tokens on either side at most.
        negatives: how many a pair counts, k.
        shared: negatives that are drawn in a step, for all pairs.
        threshold: frequency above which a word is left out at times.
        columns: which part of a vector is trained, as shares (`ssl_zoo.columns`); None: all of it.

    Raises:
        ValueError: another `predicts`, or a number that cannot be.
    """

    family = "word vectors"
    takes = ("bag",)
    counts: Tensor  # (V,) how often each id was read, plus one
    tiny: ClassVar[dict[str, Any]] = {"shared": 8}

    def __init__(
        self,
        backbone: TokenBackbone,
        predicts: Literal["contexts", "centre"] = "contexts",
        window: int = 5,
        negatives: float = 5.0,
        shared: int = 256,
        threshold: float = 1e-3,
        columns: Sequence[float] | None = None,
    ):
        super().__init__(backbone)
        if predicts not in ("contexts", "centre"):
            raise ValueError(f"predicts={predicts!r} is not known; take contexts or centre")
        if min(window, shared) < 1 or min(negatives, threshold) <= 0:
            raise ValueError(f"{window=}, {negatives=}, {shared=} and {threshold=} must be positive")
        self.predicts, self.window, self.negatives, self.shared = predicts, window, negatives, shared
        self.threshold = threshold
        self.words = words_of(backbone.word_embedding(), columns)
        self.contexts = nn.Embedding(self.words.num_embeddings, self.words.embedding_dim)
        nn.init.zeros_(self.contexts.weight)  # as word2vec's code starts them
        self.register_buffer("counts", torch.ones(self.words.num_embeddings))
        self.seen = Stash()

    def without_frequent(self, noise: Tensor, ids: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and segments (B, T) without frequent words; noise (B, T)."""
        frequency = self.counts[ids] / self.counts.sum()
        return moved_up((segments >= 0) & (noise < (self.threshold / frequency).sqrt()), ids, segments)

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, len(self.counts))
        ids, words = batch.x.long(), self.words
        segments = torch.zeros_like(ids) if batch.segments is None else batch.segments
        left_out, reach = rand(*ids.shape, 2, device=ids.device).unbind(2)
        kept, documents = self.without_frequent(left_out, ids, segments)
        pairs = neighbours(documents, 1 + (reach * self.window).long(), STRETCH, self.window).to(words.weight)
        likely = self.counts.double().pow(0.75).cumsum(0)
        noise = rand_shared(self.shared).to(likely) * likely[-1]
        drawn = torch.searchsorted(likely, noise, right=True).clamp_max(len(likely) - 1)
        around, own = stretches(kept, STRETCH, self.window)
        if self.predicts == "contexts":
            u, v, places = words(own), self.contexts(around), ids.numel() * (self.window + 1)
        else:
            size = pairs.sum(2, keepdim=True)
            u, v, places = pairs @ words(around) / size.clamp_min(1), self.contexts(own), ids.numel()
            pairs = torch.diag_embed(
                (size > 0).to(pairs).squeeze(2)
            )  # a centre, and the mean of its contexts
        if self.training:  # what is only looked at is not counted
            real = (segments >= 0).flatten().to(self.counts)
            self.seen.stash(torch.zeros_like(self.counts).scatter_add(0, ids.flatten(), real)[None])
        loss = negative_sampling(u, v, pairs, self.contexts(drawn), self.negatives)
        return Loss(loss / places, {"pairs": pairs.sum() / len(ids)})

    def advance(self, t: float) -> None:
        super().advance(t)
        if (seen := self.seen.taken()) is not None:
            self.counts += seen.sum(0)
