"""Filling in the middle: Bavarian et al. 2022, arXiv:2207.14255, section 3.

    L = - (1 / N) sum over i of log p(u_i | u_1 ... u_{i-1}),  after half of the rows were reordered

    text   the cat sat on the mat
    PSM    PRE the cat SUF the mat MID sat on
    SPM    PRE SUF the mat MID the cat sat on

A document is cut in three at two random places, and told with its middle last, so that a causal model
learns to write what lies between two texts; half of these rows in the second order. The loss is that of
next-token prediction, on everything. It costs next to nothing of what next-token prediction learns, as the
paper measures.

Rows change after packing, in their longest document alone, which is the paper's "context level": rows that
are cut before they are packed lose their middles. Three ids beside the text mark the parts
(`token_scores.Marks`), and rows are longer by them, so that no token is lost. N is rows x (length + 3).
"""

from __future__ import annotations

import torch

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.token_scores import Marks, output_matrix, score_tokens
from ssl_zoo.views.text import middles_last


class FillInTheMiddle(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be causal.
        rate: share of the rows that change.
        swapped: share of these that are told in the order SPM.

    Raises:
        ValueError: the backbone cannot be causal, or a share that is not in [0, 1].
    """

    family = "autoregressive"
    unit = "nats per token"
    takes = ("transformer", "encoder", "decoder")
    writes = "next"
    lookahead = 1

    def __init__(self, backbone: TokenBackbone, rate: float = 0.5, swapped: float = 0.5):
        super().__init__(backbone)
        if not (0 <= rate <= 1 and 0 <= swapped <= 1):
            raise ValueError(f"shares of rows lie in [0, 1], not {rate=} and {swapped=}")
        backbone.refuse("causal")
        backbone.order, self.rate, self.swapped = "causal", rate, swapped
        self.output, self.marks = output_matrix(backbone), Marks(3, backbone.dim)

    def forward(self, batch: Batch) -> Loss:
        """batch.x (B, T + 1): T + 3 tokens are read and as many are scored, where a row changes."""
        size = len(self.output.weight)
        check_ids(batch.x, size)
        ids = batch.x.long()
        documents = torch.zeros_like(ids) if batch.segments is None else batch.segments
        noise = rand(len(ids), 4, device=ids.device)
        told, segments = middles_last(
            noise, ids, documents, (size, size + 1, size + 2), self.rate, self.swapped
        )
        read = self.marks.embed(self.backbone, told[:, :-1])
        code = self.backbone.encode(read, None, segments[:, :-1], order="causal").tokens
        loss, nats, count = score_tokens(
            code.flatten(0, 1),
            self.output.weight,
            told[:, 1:].flatten(),
            (segments[:, 1:] >= 0).flatten(),
            told[:, 1:].numel(),
            marks=self.marks.weight,
        )
        return Loss(loss, {"nats_per_token": nats}, {"nats_per_token": count})
