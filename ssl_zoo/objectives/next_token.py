"""Next-token prediction: GPT (Radford et al. 2018, eq. 1).

    L = - mean_i log p(u_i | u_1 ... u_{i-1})

A document opens with the separator, and the last token of a document predicts the separator that
opens the next one, so every position of a packed row is scored and every batch weighs the same.
Where rows end in padding, the sum over what is left is still divided by all positions, so that parts
of a batch average to the whole (docs/decisions/0005).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Guesses
from ssl_zoo.token_scores import output_matrix, score_tokens


class NextToken(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be causal. Its word embedding is also the output matrix
            (Press & Wolf 2017), unless their widths differ.

    Raises:
        ValueError: the backbone is not for text or cannot be causal.
    """

    family = "autoregressive"
    unit = "nats per token"
    takes = ("transformer", "encoder", "decoder")
    writes = "next"
    lookahead = 1

    def __init__(self, backbone: TokenBackbone):
        super().__init__(backbone)
        backbone.refuse("causal")
        backbone.order = "causal"
        self.output = output_matrix(backbone)

    def forward(self, batch: Batch) -> Loss:
        """batch.x (B, T + 1): T tokens are read and T are scored."""
        check_ids(batch.x, self.output.weight.shape[0])  # the last column too, which is only a target
        read, segments = batch.x[:, :-1], batch.segments
        if segments is not None:
            segments = segments[:, :-1]
        backbone = self.backbone
        code = backbone.encode(backbone.embed(read), None, segments, order="causal")
        rows, target = code.tokens.flatten(0, 1), batch.x[:, 1:].flatten()  # (B * T, D), (B * T,)
        if batch.segments is None:
            scored = torch.ones_like(target, dtype=torch.bool)
        else:
            scored = (batch.segments[:, 1:] >= 0).flatten()
        loss, nats, count = score_tokens(rows, self.output.weight, target, scored, len(target))
        return Loss(loss, {"nats_per_token": nats}, {"nats_per_token": count})

    def show(self, batch: Batch) -> Guesses:
        """The first row, without its padding."""
        ids, segments = batch.x[:1], None if batch.segments is None else batch.segments[:1]
        code = self.backbone.encode(self.backbone.embed(ids), None, segments, order="causal")
        at = torch.arange(1, ids.shape[1], device=ids.device)
        if segments is not None:
            at = at[segments[0, 1:] >= 0]
        p = F.linear(code.tokens[0, at - 1], self.output.weight).float().softmax(1)  # (K, V)
        note = "The probability of each token, given all before it; the first one was only read."
        return Guesses(note, ids[0], at, p, hidden=False)
