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
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.heads import output_matrix, score_tokens
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.tokens import put, take
from ssl_zoo.views.masks import Masking, Tokens, corrupt


class MaskedLM(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be bidirectional, whose vocabulary has a mask token.
        mask: chooses what to hide; `views.masks.Tokens`, `WholeWords` or `Spans`. Default: 15 % of tokens.

    Raises:
        ValueError: the backbone cannot be bidirectional, or its vocabulary lacks what the mask needs.
    """

    family = "masked"
    takes = ("transformer", "encoder", "decoder")
    ordinary: Tensor  # (V - specials,) ids that may stand in as noise
    special: Tensor  # (V,) bool
    continues: Tensor  # (V,) bool

    def __init__(self, backbone: TokenBackbone, mask: Masking | None = None):
        super().__init__(backbone)
        backbone.refuse("both")
        backbone.order = "both"
        vocabulary = backbone.vocabulary
        if vocabulary is None or vocabulary.mask is None:
            raise ValueError(
                "MaskedLM needs a vocabulary with a mask token, and this tokenizer has none; "
                "take tokenizer=bpe, bytes or characters, or a BERT-like pretrained one"
            )
        self.mask = mask or Tokens()
        self.hidden = vocabulary.mask
        special = torch.zeros(vocabulary.size, dtype=torch.bool)
        special[list({*vocabulary.special, vocabulary.mask, vocabulary.pad})] = True
        continues = torch.zeros(vocabulary.size, dtype=torch.bool)
        continues[list(vocabulary.continues)] = True
        # Derived from the vocabulary: not part of the state.
        self.register_buffer("special", special, persistent=False)
        self.register_buffer("continues", continues, persistent=False)
        self.register_buffer("ordinary", (~special).nonzero().squeeze(1), persistent=False)
        self.transform = nn.Sequential(
            nn.Linear(backbone.dim, backbone.dim), nn.GELU(), nn.LayerNorm(backbone.dim)
        )
        self.output = output_matrix(backbone)
        self.bias = nn.Parameter(torch.zeros(vocabulary.size))

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, len(self.special))
        ids, segments = batch.x.long(), batch.segments
        b, t = ids.shape
        candidates = ~self.special[ids]
        if segments is not None:
            candidates &= segments >= 0
        at, valid = self.mask(rand(b, t, device=ids.device), ids, candidates, self.continues)  # (B, K)
        original = ids.gather(1, at)
        noise = rand(b, 2, at.shape[1], device=ids.device)
        random = self.ordinary[(noise[:, 1] * len(self.ordinary)).long()]
        shown = torch.where(valid, corrupt(noise[:, 0], random, original, self.hidden), original)

        tokens = self.backbone.embed(put(ids, at, shown))
        code = self.backbone.encode(tokens, None, segments, order="both")
        rows = self.transform(take(code.tokens, at).flatten(0, 1))  # (B * K, D)
        loss, nats, count = score_tokens(
            rows, self.output.weight, original.flatten(), valid.flatten(), self.mask.rate * b * t, self.bias
        )
        return Loss(loss, {"nats_per_masked_token": nats}, {"nats_per_masked_token": count})
