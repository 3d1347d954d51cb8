"""Several next tokens at once: Gloeckle et al. 2024, arXiv:2404.19737, eq. 2.

    L = - (1 / N) sum over i of sum over k = 1..n of log p_k(u_{i+k} | u_1 ... u_i),  N = rows x length

All predictions read one trunk and share one output matrix. The trunk itself predicts the next token, so
that what is exported is a language model like any other; each token further ahead has a block of its own
between trunk and output. In the paper the next token has one, too, and is the last block of what is kept.
The gain that the paper reports begins at a billion parameters.

A prediction ends with its document: the last one that is scored is the separator that opens the next.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._trunks import wordless
from ssl_zoo.token_scores import output_matrix, score_tokens


class MultiToken(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be causal.
        ahead: how many tokens are predicted at each place, n.

    Raises:
        ValueError: the backbone cannot be causal, or fewer than two tokens.
    """

    family = "autoregressive"
    takes = ("transformer", "encoder", "decoder")
    writes = "next"
    tiny: ClassVar[dict[str, Any]] = {"ahead": 3}

    def __init__(self, backbone: TokenBackbone, ahead: int = 4):
        super().__init__(backbone)
        if ahead < 2:
            raise ValueError(f"ahead={ahead}: take two tokens or more, or objective=next_token")
        backbone.refuse("causal")
        backbone.order = "causal"
        self.ahead = self.lookahead = ahead
        self.output = output_matrix(backbone)
        self.enter = nn.ModuleList()
        self.heads = nn.ModuleList()
        for _ in range(ahead - 1):
            head = wordless(backbone, depth=1)
            self.enter.append(nn.Linear(backbone.dim, head.word_embedding().embedding_dim, bias=False))
            self.heads.append(head)

    def forward(self, batch: Batch) -> Loss:
        """batch.x (B, T + n): T tokens are read."""
        check_ids(batch.x, len(self.output.weight))
        length = batch.x.shape[1] - self.ahead
        documents = torch.zeros_like(batch.x) if batch.segments is None else batch.segments
        read, segments = batch.x[:, :length], documents[:, :length]
        tokens = self.backbone.encode(self.backbone.embed(read), None, segments, order="causal").tokens
        value, parts, counts = torch.zeros((), device=batch.x.device), {}, {}
        for k in range(1, self.ahead + 1):
            code = tokens
            if k > 1:
                entering = self.enter[k - 2](tokens).to(tokens.dtype)
                code = self.heads[k - 2].encode(entering, None, segments, order="causal").tokens  # pyright: ignore
            # The token before the target is of the document that is read, so that a document's end counts.
            before = documents[:, k - 1 : length + k - 1]
            scored = (before == segments) & (segments >= 0) & (documents[:, k : length + k] >= 0)
            loss, nats, count = score_tokens(
                code.flatten(0, 1),
                self.output.weight,
                batch.x[:, k : length + k].flatten(),
                scored.flatten(),
                read.numel(),
            )
            name = "nats_per_token" if k == 1 else f"nats_{k}_ahead"
            value, parts[name], counts[name] = value + loss, nats, count
        return Loss(value, parts, counts)
