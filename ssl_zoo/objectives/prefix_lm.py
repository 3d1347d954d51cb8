"""Prefix language modelling: the second half of GPT and BERT in one (Liu et al. 2018, arXiv:1801.10198; T5:
Raffel et al. 2020, arXiv:1910.10683, section 3.2.1).

    L = - (1 / S) sum over i > P of log p(u_i | u_1 ... u_{i-1}),  S = half of rows x length

The first P tokens of a document see each other. From there on, each sees what comes before it, and predicts
the next. P is drawn evenly from 1 to one less than the document has, for each document of a packed row.
Mistakes seen in public: a loss on the prefix, which sees its own targets; a mask that lets the prefix see
what follows; one split for a packed row, which leaves whole documents without one.

A token counts the same wherever the splits fall: S is what is scored on average, and a constant
(docs/decisions/0005).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Guesses
from ssl_zoo.token_scores import output_matrix, score_tokens
from ssl_zoo.views.masks import prefixes


class PrefixLM(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that honours any order. Features are read in both directions, as a text
            that is all prefix.

    Raises:
        ValueError: the backbone is not for text, or honours one order alone.
    """

    family = "autoregressive"
    takes = ("transformer", "encoder", "decoder")
    writes = "prefix"
    lookahead = 1

    def __init__(self, backbone: TokenBackbone):
        super().__init__(backbone)
        backbone.refuse(torch.zeros(1, 1, dtype=torch.long))
        backbone.order = "both"
        self.output = output_matrix(backbone)

    def forward(self, batch: Batch) -> Loss:
        """batch.x (B, T + 1): T tokens are read, and those after the prefixes are scored."""
        check_ids(batch.x, self.output.weight.shape[0])  # the last column too, which is only a target
        read, target = batch.x[:, :-1], batch.x[:, 1:]
        documents = torch.zeros_like(batch.x) if batch.segments is None else batch.segments
        segments = documents[:, :-1]
        order, after = prefixes(rand(*read.shape, device=read.device), segments)
        code = self.backbone.encode(self.backbone.embed(read), None, segments, order=order)
        scored, rows = (after & (documents[:, 1:] >= 0)).flatten(), code.tokens.flatten(0, 1)  # (B * T, D)
        loss, nats, count = score_tokens(rows, self.output.weight, target.flatten(), scored, len(rows) / 2)
        return Loss(loss, {"nats_per_target": nats}, {"nats_per_target": count})

    def show(self, batch: Batch) -> Guesses:
        ids = batch.x[:1]
        documents = torch.zeros_like(ids) if batch.segments is None else batch.segments[:1]
        order, after = prefixes(rand(*ids.shape, device=ids.device), documents)
        code = self.backbone.encode(self.backbone.embed(ids), None, documents, order=order)
        at = (after[0, :-1] & (documents[0, 1:] >= 0)).nonzero().squeeze(1) + 1
        p = F.linear(code.tokens[0, at - 1], self.output.weight).float().softmax(1)  # (K, V)
        note = "The probability of each token after a prefix, given all before it; prefixes were only read."
        return Guesses(note, ids[0], at, p, hidden=False)
