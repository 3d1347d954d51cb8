"""Replaced-token detection: ELECTRA (Clark et al. 2020, arXiv:2003.10555, eq. 1 to 3).

    L = L_G + 50 L_D
    L_G = - (1 / S) sum over hidden i of log p_G(u_i | masked text),  S = 0.15 x rows x length
    L_D = (1 / N) sum over all i of BCE(D(shown text)_i, [shown_i != u_i]),  N = rows x length

A small generator fills in the tokens that are hidden, and the backbone tells of every token whether it was
replaced. The generator has a quarter of the backbone's width and shares its token embeddings, on the way in
and out. What it fills in is drawn, not its best guess, and no gradient flows through the draw. As in
ELECTRA's code, 85 % of the hidden tokens become the mask and the others stay.

Mistakes seen in public: labels that say where the mask was, though the generator is often right; a backbone
that sees the mask; a loss on the hidden tokens alone; the generator exported in the backbone's place.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.heads import detection
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._trunks import wordless
from ssl_zoo.token_scores import output_matrix, sample_tokens, score_tokens
from ssl_zoo.tokens import put, take
from ssl_zoo.views.hiding import Hiding
from ssl_zoo.views.masks import Masking, Tokens


class Electra(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be bidirectional, whose vocabulary has a mask token. It is the
            discriminator, and what is exported.
        mask: chooses what to hide (`views.masks`). Default: 15 % of tokens.
        fraction: width of the generator, of the backbone's (the paper: 1/4 for small, 1/3 for base).
        weight: of the detection loss.

    Raises:
        ValueError: the backbone cannot see both ways, has no mask token, or fraction is not in (0, 1].
    """

    family = "masked"
    takes = ("transformer", "encoder")
    tiny: ClassVar[dict[str, Any]] = {"fraction": 0.5}

    def __init__(
        self, backbone: TokenBackbone, mask: Masking | None = None, fraction: float = 0.25, weight: float = 50
    ):
        super().__init__(backbone)
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction {fraction} of the backbone's width is not in (0, 1]")
        backbone.refuse("both")
        backbone.order = "both"
        self.hiding, self.weight = Hiding(backbone.vocabulary, mask or Tokens()), weight
        self.generator = wordless(backbone, fraction)
        small, wide = self.generator.dim, backbone.dim
        self.enter, self.output = nn.Linear(wide, small), output_matrix(backbone)
        self.leave = nn.Sequential(nn.Linear(small, wide), nn.GELU(), nn.LayerNorm(wide))
        self.bias = nn.Parameter(torch.zeros(len(self.output.weight)))
        self.read, self.tell = nn.Sequential(nn.Linear(wide, wide), nn.GELU()), nn.Linear(wide, 1)

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, self.hiding.size)
        ids, segments = batch.x.long(), batch.segments
        at, valid = self.hiding(rand(*ids.shape, device=ids.device), ids, segments)  # (B, K)
        original = ids.gather(1, at)
        noise = rand(len(ids), 2, at.shape[1], device=ids.device)
        masked = torch.where(valid & (noise[:, 0] < 0.85), self.hiding.mask, original)

        words = self.backbone.embed(put(ids, at, masked))
        entering = self.enter(words).to(words.dtype)  # (B, T, D / 4); autocast would begin the trunk in half
        guesses = self.generator.encode(entering, None, segments, order="both").tokens
        rows = self.leave(take(guesses, at).flatten(0, 1))  # (B * K, D)
        places = self.hiding.choose.rate * ids.numel()
        output, bias = self.output.weight, self.bias
        filling, nats, count = score_tokens(rows, output, original.flatten(), valid.flatten(), places, bias)

        drawn = sample_tokens(rows, output, noise[:, 1].flatten(), bias).view_as(at)
        shown = put(ids, at, torch.where(valid, drawn, original))
        code = self.backbone.encode(self.backbone.embed(shown), None, segments, order="both")
        replaced, real = shown != ids, ids >= 0 if segments is None else segments >= 0
        found, right = detection(self.read(code.tokens), self.tell.weight, self.tell.bias, replaced, real)
        sums = {"detection_nats": found.detach(), "detection_accuracy": right, "replaced": replaced.sum()}
        parts = {name: part / real.sum().clamp_min(1) for name, part in sums.items()}
        return Loss(
            filling + self.weight * found / ids.numel(),
            {"nats_per_masked_token": nats, **parts},
            {"nats_per_masked_token": count, **dict.fromkeys(parts, real.sum())},
        )
