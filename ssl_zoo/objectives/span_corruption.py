"""Span corruption: T5 (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4), in one trunk.

    L = - (1 / S) sum over targets i of log p(v_i | inputs, v_1 ... v_{i-1}),  S = rows x targets

    text     Thank you for inviting me to your party last week .
    inputs   Thank you <0> me to your party <1> week . <end>
    targets  <0> for inviting <1> last <end>

15 % of the tokens are hidden, in spans of 3 on average. The row [inputs | targets] is read once: inputs see
each other, targets see the inputs and what is before them, and only targets are scored. Lengths are exact
functions of the context: 568 tokens make 512 of input and 114 of target, 141 make 128 and 29, and 70 make 64
and 14. T5's encoder-decoder has the same loss with a trunk for each half.

Rows are packed, since a document alone in its row is cut where the row ends (`data.text_rows`). Spans are
drawn over the row and end with their document, documents never see each other, and the first mark of a
document is scored only where the end of the inputs, which predicts it, belongs to that document. Mistakes
seen in public: marks that are ids of the text; a loss on the inputs; rows cut to the length of the inputs,
which are then an eighth padding.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones._base import TokenBackbone, check_ids
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Guesses
from ssl_zoo.token_scores import Marks, output_matrix, score_tokens
from ssl_zoo.views.noise_spans import OneStack, noise_spans, one_stack, span_counts


class SpanCorruption(Objective[TokenBackbone]):
    """Args:
        backbone: a text backbone that honours any order. Features are read in both directions.
        rate: share of the tokens that is hidden.
        span: tokens in a span, on average.
        marks: how many there are to stand for spans; a row needs one for each.

    Raises:
        ValueError: a backbone that honours one order alone; from `forward`, rows with more spans than marks.
    """

    family = "denoising"
    takes = ("transformer", "encoder", "decoder")
    writes = "spans"
    tiny: ClassVar[dict[str, Any]] = {"marks": 6}

    def __init__(self, backbone: TokenBackbone, rate: float = 0.15, span: float = 3.0, marks: int = 100):
        super().__init__(backbone)
        span_counts(2, rate, span)  # says what is wrong with them
        backbone.refuse(torch.zeros(1, 1, dtype=torch.long))
        backbone.order = "both"
        self.rate, self.span = rate, span
        self.output = output_matrix(backbone)
        self.marks = Marks(marks, backbone.dim)
        if backbone.vocabulary is None:
            raise ValueError("SpanCorruption needs a vocabulary, whose separator ends inputs and targets")
        self.end = backbone.vocabulary.separator

    def forward(self, batch: Batch) -> Loss:
        check_ids(batch.x, len(self.output.weight))
        ids = batch.x.long()
        segments = torch.zeros_like(ids) if batch.segments is None else batch.segments
        b, length = ids.shape
        hidden, spans = span_counts(length, self.rate, self.span)
        if spans > (most := self.marks.num_embeddings):
            raise ValueError(
                f"a row of {length} tokens has {spans} spans, and there are {most} marks to stand for them: "
                "set objective.marks higher, or take shorter rows (context)"
            )
        starts, lengths = noise_spans(rand(b, length - 1, device=ids.device), self.rate, self.span)
        row = one_stack(ids, segments, starts, lengths, mark=len(self.output.weight), end=self.end)
        last = hidden + spans + 1  # places at a row's end that may be targets
        document = row.segments[:, -last - 1 :]
        scored = (row.order[:, -last:] > 0) & (document[:, 1:] >= 0) & (document[:, 1:] == document[:, :-1])
        loss, nats, count = score_tokens(
            self.read(row)[:, -last:].flatten(0, 1),
            self.output.weight,
            row.ids[:, -last:].flatten(),
            scored.flatten(),
            b * last,
            marks=self.marks.weight,
        )
        return Loss(loss, {"nats_per_target": nats}, {"nats_per_target": count})

    def read(self, row: OneStack) -> Tensor:
        """States (B, L - 1, D) of rows [inputs | targets], each of which predicts the id after it."""
        ids, segments, at, order = (part[:, :-1] for part in row)
        return self.backbone.encode(self.marks.embed(self.backbone, ids), at, segments, order=order).tokens

    def show(self, batch: Batch) -> Guesses | None:
        """The first document of the first row; None if it is too short to hide some of it."""
        own = slice(None) if batch.segments is None else batch.segments[0] == batch.segments[0, 0]
        ids, size = batch.x[:1, own].long(), len(self.output.weight)
        if ids.shape[1] < 2:
            return None
        starts, lengths = noise_spans(rand(1, ids.shape[1] - 1, device=ids.device), self.rate, self.span)
        row = one_stack(ids, torch.zeros_like(ids), starts, lengths, mark=size, end=self.end)
        spans = zip(starts[0].tolist(), lengths[0].tolist(), strict=True)
        at = ids.new_tensor([i for start, length in spans for i in range(start, start + length)])
        told = ((row.order[0] > 0) & (row.ids[0] < size)).nonzero()[:-1, 0]  # without marks and the end
        scores = F.linear(self.read(row)[0, told - 1], torch.cat([self.output.weight, self.marks.weight]))
        note = "Spans were hidden, each behind one mark. The guess of a token knows those before it."
        return Guesses(note, ids[0], at, scores.float().softmax(1)[:, :size], hidden=True)
