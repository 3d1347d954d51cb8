"""A text out of its vector and a few words: RetroMAE (Xiao et al. 2022, arXiv:2205.12035, section 3).

    L = L_E + L_D
    L_E = - (1 / S) sum over hidden i of log p_E(u_i | masked text),  S = 0.3 x rows x length
    L_D = - (1 / N) sum over all i of log p_D(u_i | v, some of the other words),  N = rows x length

The backbone fills in 30 % of the words, and its mean over the masked text is the vector v. A decoder of one
layer then draws the whole text from v and from half of the other words, another half for each place
("enhanced decoding", eq. 4 to 6): queries are v and the place, keys are v and the words with their places.
It is so weak, and is told so little, that v has to hold what the text says. The decoder is thrown away. Words
are brought to the scale of the places first, as BERT's embeddings have one scale: ours begin at a fiftieth.

The paper's v is the state of a class token, and its words are hidden as BERT hides them; here v is the mean
that every probe reads, and what is hidden is the mask alone.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.decoders import CrossBlock, sine_positions
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.token_scores import output_matrix, score_tokens
from ssl_zoo.tokens import put, take
from ssl_zoo.views.hiding import Hiding
from ssl_zoo.views.masks import Masking, Tokens


class RetroMAE(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be bidirectional, whose vocabulary has a mask token.
        mask: chooses what is hidden from the backbone (`views.masks`). Default: 30 % of tokens.
        rate: share of the other words that the decoder does not see.
        heads: of the decoder's attention, dividing the backbone's width.

    Raises:
        ValueError: the backbone cannot see both ways, has no mask token or an odd width, heads that do not
            divide it, or a rate that is not in [0, 1].
    """

    family = "denoising"
    takes = ("transformer", "encoder", "decoder")
    layout = "document"
    tiny: ClassVar[dict[str, Any]] = {"heads": 2}

    def __init__(
        self, backbone: TokenBackbone, mask: Masking | None = None, rate: float = 0.5, heads: int = 4
    ):
        super().__init__(backbone)
        if not 0 <= rate <= 1:
            raise ValueError(f"a share of {rate} of the words cannot be kept from the decoder: take 0 to 1")
        if heads < 1 or backbone.dim % heads or backbone.dim % 2:
            raise ValueError(f"a width of {backbone.dim} does not split into {heads} heads, or is odd")
        backbone.refuse("both")
        backbone.order = "both"
        self.hiding, self.rate = Hiding(backbone.vocabulary, mask or Tokens(0.3)), rate
        self.output, width = output_matrix(backbone), backbone.dim
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(len(self.output.weight)))
        self.words = nn.Sequential(
            nn.Linear(backbone.word_embedding().embedding_dim, width), nn.LayerNorm(width)
        )
        self.norm, self.decoder = nn.LayerNorm(width), CrossBlock(width, width, heads)
        self.leave = nn.LayerNorm(width)

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, self.hiding.size)
        ids, backbone = batch.x.long(), self.backbone
        real = torch.ones_like(ids, dtype=torch.bool) if batch.segments is None else batch.segments >= 0
        at, valid = self.hiding(rand(*ids.shape, device=ids.device), ids, batch.segments)  # (B, K)
        original = ids.gather(1, at)
        masked = put(ids, at, torch.where(valid, self.hiding.mask, original))
        code = backbone.encode(backbone.embed(masked), None, batch.segments, order="both")
        rows, places = self.transform(take(code.tokens, at)), self.hiding.choose.rate * ids.numel()
        filled, nats, count = self.scored(rows, original, valid, places)

        told, nats_2, count_2 = self.scored(self.decode(code.pooled, ids, real), ids, real, ids.numel())
        parts = {"nats_per_masked_token": nats, "nats_per_token": nats_2}
        return Loss(filled + told, parts, {"nats_per_masked_token": count, "nats_per_token": count_2})

    def scored(
        self, rows: Tensor, ids: Tensor, where: Tensor, places: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        flat = rows.flatten(0, 1)
        return score_tokens(flat, self.output.weight, ids.flatten(), where.flatten(), places, self.bias)

    def decode(self, vector: Tensor, ids: Tensor, real: Tensor) -> Tensor:
        """What is at each place, from a vector (B, D) and some of the other words: (B, T, D)."""
        (b, t), width = ids.shape, vector.shape[1]
        position = sine_positions(width, t).to(vector)
        words = self.words(self.backbone.embed(ids)).to(vector.dtype) + position
        keys = self.norm(torch.cat([vector[:, None], words], 1))  # (B, 1 + T, D)
        other = rand(b, t, t, device=ids.device) >= self.rate
        other = other & real[:, None] & ~torch.eye(t, dtype=torch.bool, device=ids.device)
        seen = torch.cat([torch.ones_like(other[..., :1]), other], 2)  # all see the vector
        return self.leave(self.decoder(vector[:, None] + position, keys, seen))
