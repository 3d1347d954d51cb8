"""Which half comes first: sentence order (ALBERT: Lan et al. 2020, arXiv:1909.11942, section 3.1), and
whether two halves belong together: next sentence (BERT: Devlin et al. 2019, section 3.1, task 2).

    L = (1 / B) sum over rows of BCE(w . f(A, B) + b, [B does not follow A])

The longest document of a row is cut in two at a random place, and its halves stand with a separator between
them. Half of the rows are changed: their halves are swapped, or the second half is that of another row.
ALBERT found the second to be told by its topic, and swapped halves to teach more. Alone, either teaches
little: they stand beside masked words in a `Sum`.

The marks that open and end a document are left out, as they would tell which half came first.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.heads import detection
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.views.text import joined, longest


class SentenceOrder(Objective[TokenBackbone]):
    """Args:
        backbone: any text backbone that sees where a token stands.
        wrong: what is done to half of the rows: "swapped" halves, or the second half of the row beside it
            ("other").

    Raises:
        ValueError: another `wrong`, or no vocabulary, whose separator stands between two halves.
    """

    family = "pretext"
    unit = "nats"
    takes = ("transformer", "encoder", "decoder")

    def __init__(self, backbone: TokenBackbone, wrong: Literal["swapped", "other"] = "swapped"):
        super().__init__(backbone)
        if wrong not in ("swapped", "other"):
            raise ValueError(f"wrong={wrong!r} is not known; take swapped or other")
        if backbone.vocabulary is None:
            raise ValueError("SentenceOrder needs a vocabulary, whose separator stands between two halves")
        self.separator, self.wrong = backbone.vocabulary.separator, wrong
        self.whole_batch = wrong == "other"  # rows beside each other
        self.tell = nn.Linear(backbone.dim, 1)

    def halves(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Ids and segments (B, T + 1) of two halves of each row, and whether they are wrong, (B,) bool."""
        ids = batch.x.long()
        segments = torch.zeros_like(ids) if batch.segments is None else batch.segments
        start, length = longest(segments)
        start, length = start + 1, (length - 2).clamp_min(0)  # without what opens and ends it
        noise = rand(len(ids), 2, device=ids.device)
        cut = (1 + (noise[:, 0] * (length - 1)).long()).clamp_min(0).minimum(length)
        middle, wrong, row = start + cut, noise[:, 1] < 0.5, torch.arange(len(ids), device=ids.device)
        if self.wrong == "swapped":
            first = torch.where(wrong, middle, start), torch.where(wrong, length - cut, cut)
            second = torch.where(wrong, start, middle), length - first[1]
        else:
            beside = (row ^ 1).clamp_max(len(ids) - 1)
            wrong = wrong & (beside != row)
            row = torch.where(wrong, beside, row)
            first, second = (start, cut), (middle[row], (length - cut)[row])
        return *joined(torch.stack([ids, ids[row]], 1), first, second, self.separator), wrong

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, self.backbone.word_embedding().num_embeddings)
        ids, segments, wrong = self.halves(batch)
        features = self.backbone(ids, segments).pooled
        tell, every = self.tell, torch.ones_like(wrong)
        loss, right = detection(features, tell.weight, tell.bias, wrong, every)
        return Loss(loss / len(wrong), {"accuracy": right / len(wrong)})

    def chance(self, rows: int) -> float:
        return math.log(2)
