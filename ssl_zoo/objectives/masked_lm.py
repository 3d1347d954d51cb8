"""Masked language modelling: BERT (Devlin et al. 2019, §3.1, task 1).

    L = - (1 / S) sum over masked i of log p(u_i | corrupted text),  S = 0.15 x rows x length

15 % of the tokens are chosen; of these 80 % become the mask, 10 % a random id, 10 % stay. Which
tokens are chosen together is a function: single tokens, whole words, or spans (`views.masks`). Only
the chosen rows reach the output matrix, always the same number of them, so shapes are static.

S is what full rows hide. BERT's code divides by the number of tokens that a batch happens to hide, which
is hardly another number where rows are full. Where they are not, a hidden token here counts the same
whichever rows share its batch, so that parts of a batch average to the whole (docs/decisions/0005).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Guesses
from ssl_zoo.token_scores import output_matrix, score_tokens
from ssl_zoo.tokens import put, take
from ssl_zoo.views.hiding import Hiding
from ssl_zoo.views.masks import Masking, Tokens, corrupt


class MaskedLM(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be bidirectional, whose vocabulary has a mask token.
        mask: chooses what to hide; `views.masks.Tokens`, `WholeWords` or `Spans`. Default: 15 % of tokens.

    Raises:
        ValueError: the backbone cannot be bidirectional, or its vocabulary lacks what the mask needs.
    """

    family = "masked"
    unit = "nats per hidden token"
    takes = ("transformer", "encoder", "decoder")
    ordinary: Tensor  # (V - specials,) ids that may stand in as noise

    def __init__(self, backbone: TokenBackbone, mask: Masking | None = None):
        super().__init__(backbone)
        backbone.refuse("both")
        backbone.order = "both"
        self.hiding = Hiding(backbone.vocabulary, mask or Tokens())
        ordinary = (~self.hiding.special).nonzero().squeeze(1)
        self.register_buffer("ordinary", ordinary, persistent=False)  # of the vocabulary, not of the state
        self.transform = nn.Sequential(
            nn.Linear(backbone.dim, backbone.dim), nn.GELU(), nn.LayerNorm(backbone.dim)
        )
        self.output = output_matrix(backbone)
        self.bias = nn.Parameter(torch.zeros(len(self.output.weight)))

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, self.hiding.size)
        ids, segments = batch.x.long(), batch.segments
        at, valid = self.hiding(rand(*ids.shape, device=ids.device), ids, segments)  # (B, K)
        original = ids.gather(1, at)
        noise = rand(len(ids), 2, at.shape[1], device=ids.device)
        random = self.ordinary[(noise[:, 1] * len(self.ordinary)).long()]
        shown = torch.where(valid, corrupt(noise[:, 0], random, original, self.hiding.mask), original)

        tokens = self.backbone.embed(put(ids, at, shown))
        code = self.backbone.encode(tokens, None, segments, order="both")
        rows = self.transform(take(code.tokens, at).flatten(0, 1))  # (B * K, D)
        places, target = self.hiding.choose.rate * ids.numel(), original.flatten()
        loss, nats, count = score_tokens(rows, self.output.weight, target, valid.flatten(), places, self.bias)
        return Loss(loss, {"nats_per_masked_token": nats}, {"nats_per_masked_token": count})

    def show(self, batch: Batch) -> Guesses:
        """The first row; all that is hidden is the mask, where training leaves some or puts others."""
        ids, segments = batch.x[:1].long(), None if batch.segments is None else batch.segments[:1]
        at, valid = self.hiding(rand(*ids.shape, device=ids.device), ids, segments)
        at = at[valid].sort().values[None]  # (1, K)
        tokens = self.backbone.embed(put(ids, at, torch.full_like(at, self.hiding.mask)))
        code = self.backbone.encode(tokens, None, segments, order="both")
        scores = F.linear(self.transform(take(code.tokens, at)[0]), self.output.weight, self.bias)
        note = (
            "Tokens that were hidden (all shown to the network as the mask), and its guesses in their place."
        )
        return Guesses(note, ids[0], at[0], scores.float().softmax(1), hidden=True)
