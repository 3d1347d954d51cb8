"""Text out of one vector: TSDAE (Wang, Reimers & Gurevych 2021, arXiv:2104.06979, section 3).

    L = - (1 / N) sum over i of log p(u_i | v, u_1 ... u_{i-1}),  v = mean of the states of the damaged text

60 % of the tokens of a document are deleted. What is left is encoded and pooled to one vector, from which
the same network, now causal, writes the whole document. So the vector has to hold what the document says.
The paper's decoder reads the vector by attention in each layer; here it stands before the text as its first
token, which needs no weight but a linear layer. Encoder and decoder share all weights, as in the paper.

N is rows x length. Mistakes seen in public: tokens that are masked, and not deleted, which tells how many
there were; a decoder that does without the vector, which much text before each token allows: watch
`nats_per_token` against that of next-token prediction.
"""

from __future__ import annotations

import torch
from torch import nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.token_scores import output_matrix, score_tokens
from ssl_zoo.views.text import without


class TSDAE(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that honours any order. Features are read in both directions.
        rate: share of the tokens that is deleted; one is left at least.

    Raises:
        ValueError: a backbone that honours one order alone, or a rate that is not in (0, 1).
    """

    family = "denoising"
    unit = "nats per token"
    takes = ("transformer", "encoder", "decoder")
    layout = "document"

    def __init__(self, backbone: TokenBackbone, rate: float = 0.6):
        super().__init__(backbone)
        if not 0 < rate < 1:
            raise ValueError(f"a share of {rate} of a text cannot be deleted: take a rate in (0, 1)")
        backbone.refuse(torch.zeros(1, 1, dtype=torch.long))
        backbone.order, self.rate = "both", rate
        self.output = output_matrix(backbone)
        self.enter = nn.Linear(backbone.dim, backbone.word_embedding().embedding_dim)

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, len(self.output.weight))
        ids, backbone = batch.x.long(), self.backbone
        segments = torch.zeros_like(ids) if batch.segments is None else batch.segments
        left, documents = without(rand(*ids.shape, device=ids.device), ids, segments, self.rate)
        vector = backbone.encode(backbone.embed(left), None, documents, order="both").pooled
        words = backbone.embed(ids[:, :-1])
        read = torch.cat([self.enter(vector)[:, None].to(words.dtype), words], 1)  # (B, T, D)
        code = backbone.encode(read, None, segments, order="causal").tokens
        scored = (segments >= 0).flatten()
        loss, nats, count = score_tokens(
            code.flatten(0, 1), self.output.weight, ids.flatten(), scored, ids.numel()
        )
        return Loss(loss, {"nats_per_token": nats}, {"nats_per_token": count})
