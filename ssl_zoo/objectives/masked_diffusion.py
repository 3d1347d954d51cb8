"""Masked diffusion of text: MDLM (Sahoo et al. 2024, arXiv:2406.07524, eq. 10 and 11), LLaDA (Nie et al.
2025, arXiv:2502.09992, eq. 3).

    L = - (1 / N) sum over rows, and their hidden i, of log p(u_i | a share t hidden) / t,  N = rows x length

Each token of a row is hidden with probability t, and t is drawn anew for each row, from almost none to all.
The loss is then at least the nats that the text takes under the model that writes by filling in, a few
tokens at a time. It is masked language modelling of every rate, weighed by 1 / t. As in MDLM, the mask is
never predicted, and the network is not told t.

The t of a batch are spread evenly (`noise.stratified`), over all processes, where MDLM's code spreads them
over each process alone. Mistakes seen in public: a mean over the hidden tokens, which takes the weights
away again; a mask that can be predicted; a t near 0, whose weight is without end.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.noise import rand, stratified
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Guesses
from ssl_zoo.token_scores import output_matrix, score_tokens
from ssl_zoo.views.hiding import mask_id


class MaskedDiffusion(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that can be bidirectional, whose vocabulary has a mask token.
        least: the smallest share that is hidden of a row (the papers: 1e-3).

    Raises:
        ValueError: the backbone cannot see both ways, has no mask token, or `least` is not in (0, 1).
    """

    family = "diffusion"
    unit = "nats per token, at most"
    takes = ("transformer", "encoder", "decoder")
    writes = "masks"
    never: Tensor  # (V,) 0, and -infinity at the mask

    def __init__(self, backbone: TokenBackbone, least: float = 1e-3):
        super().__init__(backbone)
        if not 0 < least < 1:
            raise ValueError(f"of each row a share from {least} to 1 cannot be hidden: take least in (0, 1)")
        backbone.refuse("both")
        backbone.order = "both"
        self.mask, self.least = mask_id(backbone.vocabulary), least
        self.output = output_matrix(backbone)
        never = torch.zeros(len(self.output.weight))
        never[self.mask] = float("-inf")
        self.register_buffer("never", never, persistent=False)

    def hide(self, ids: Tensor, segments: Tensor | None, share: Tensor) -> Tensor:
        """What is hidden of rows of ids (B, T), of each this share (B,): (B, T) bool. Padding is not."""
        hidden = (rand(*ids.shape, device=ids.device) < share[:, None]) & (ids != self.mask)
        return hidden if segments is None else hidden & (segments >= 0)

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, len(self.never))
        ids, segments = batch.x.long(), batch.segments
        share = self.least + (1 - self.least) * stratified(len(ids), ids.device)  # t
        hidden = self.hide(ids, segments, share)
        code = self.read(ids.masked_fill(hidden, self.mask), segments)
        loss, nats, count = score_tokens(
            code.flatten(0, 1),
            self.output.weight,
            ids.flatten(),
            hidden.flatten(),
            ids.numel(),
            self.never,
            counts=(1 / share)[:, None].expand_as(ids).flatten(),
        )
        real = torch.full_like(count, ids.numel()) if segments is None else (segments >= 0).sum()
        return Loss(loss, {"nats_per_token": nats * count / real}, {"nats_per_token": real})

    def read(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        """States (B, T, D) of text in which masks stand for what is hidden."""
        return self.backbone.encode(self.backbone.embed(ids), None, segments, order="both").tokens

    def show(self, batch: Batch) -> Guesses:
        """The first row, of which half is hidden."""
        ids, segments = batch.x[:1].long(), None if batch.segments is None else batch.segments[:1]
        hidden = self.hide(ids, segments, torch.full((1,), 0.5, device=ids.device))
        at = hidden[0].nonzero().squeeze(1)
        code = self.read(ids.masked_fill(hidden, self.mask), segments)[0, at]
        scores = F.linear(code, self.output.weight, self.never.to(code.dtype))
        note = "Half of the tokens were hidden, and these are the guesses in their place."
        return Guesses(note, ids[0], at, scores.float().softmax(1), hidden=True)
