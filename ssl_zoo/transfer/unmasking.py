"""Text that is filled in: a backbone of masked diffusion learns completions, and writes.

Learning, with L ids in each completion u and a share t drawn for each (LLaDA: Nie et al. 2025,
arXiv:2502.09992, eq. 5):

    loss = - mean over completions of (1 / (t L)) sum over hidden i of log p(u_i | prompt, u with t hidden)

Writing begins with a prompt and a mask in each place after it, and takes some steps to replace them all; what
is written is never changed. Two ways:

Draws (MDLM: Sahoo et al. 2024, arXiv:2406.07524, section 3.2). Time runs from 1 to 0 in equal steps. A step
from t to s unmasks each hidden place with probability (t - s) / t, and draws its id from p. A place is
therefore unmasked in each of the steps with the same probability, whatever becomes of the others, so that one
number for each place says beforehand when. Ids are drawn in double precision, since logits with noise added
in single precision draw as if the temperature were lower (Zheng et al. 2024, arXiv:2409.02908).

The surest first (LLaDA, section 2.4, low-confidence remasking, without blocks). All steps unmask the same
number of places, the earlier steps one more where that does not divide: those whose likeliest id is the
likeliest, with these ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.noise import uniform
from ssl_zoo.transfer.causal import HELD, Example, nats, states
from ssl_zoo.transfer.features import device_of, evaluating
from ssl_zoo.transfer.sampling import Choice, Step, drawn
from ssl_zoo.views.hiding import mask_id

LEAST = 1e-3  # the smallest share that is hidden of a completion (both papers)


def laid_out(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids, padded on the right: ids (B, T), and segments (B, T), 0 and -1, both int64."""
    x = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    segments = torch.full_like(x, -1)
    for i, row in enumerate(rows):
        x[i, : len(row)], segments[i, : len(row)] = torch.tensor(row), 0
    return x, segments


def shares(noise: Tensor, count: int) -> Tensor:
    """What is hidden of each of `count` completions, evenly spread over them: (count,) in [LEAST, 1).

    noise: () uniform in [0, 1), which all of them share (see `noise.stratified`).
    """
    even = ((torch.arange(count) + noise) / count).clamp_max(1 - 2.0**-24)
    return LEAST + (1 - LEAST) * even


def unmasking_nats(backbone: TokenBackbone, examples: Sequence[Example], key: int) -> Tensor:
    """What each id of the completions adds to the loss: (B, L) nats, 0 where it was not hidden.

    Their mean is on average an upper bound of the nats that an id takes.

    Args:
        examples: with completions of one length.
        key: decides what is hidden: the same on every device.

    Raises:
        DataError: rows longer than the backbone takes.
        ValueError: completions of several lengths, or a vocabulary without a mask.
    """
    lengths = {len(one.ids) - one.prompt for one in examples}
    if len(lengths) != 1:
        raise ValueError(f"completions that are filled in have one length, not {sorted(lengths)}")
    length, count = lengths.pop(), len(examples)
    mask, weight = mask_id(backbone.vocabulary), backbone.word_embedding().weight
    noise = uniform(key, 0, 1 + count * length, torch.device("cpu"))
    share = shares(noise[0], count)[:, None]  # (B, 1)
    x, segments = laid_out([one.ids for one in examples])
    at = torch.tensor([one.prompt for one in examples])[:, None] + torch.arange(length)  # (B, L)
    target = x.gather(1, at)
    hidden = (noise[1:].view(count, length) < share) & (target != mask)
    x.scatter_(1, at, target.masked_fill(hidden, mask))
    row, column = hidden.nonzero(as_tuple=True)
    x, segments, row, at, target, share = (
        part.to(weight.device)
        for part in (x, segments, row, at[row, column], target[row, column], share[row, 0])
    )
    code = states(backbone, x, segments, "both")[row, at]
    lost = nats(code, weight, target, never=mask) / share  # as in pretraining, the mask is never predicted
    return lost.new_zeros(count, length).index_put((row, column.to(weight.device)), lost)


class Canvas:
    """Rows of prompts, and places after them that are filled in.

    Attributes:
        x, segments: (B, T) int64 on the CPU. at: (B, L), where in its row each place is.
        hidden: (B, L) bool, what is still a mask. found: what was written in each place.
        ends: the first place of each row in which a document ends; L where none does yet.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], tokens: int, mask: int):
        self.x, self.segments = laid_out([[*prompt, *[mask] * tokens] for prompt in prompts])
        self.at = torch.tensor([len(prompt) for prompt in prompts])[:, None] + torch.arange(tokens)
        self.hidden = torch.ones(len(prompts), tokens, dtype=torch.bool)
        self.found: list[dict[int, Step]] = [{} for _ in prompts]
        self.ends = [tokens] * len(prompts)

    def open(self) -> list[int]:
        """The rows in which something is hidden before the document's end."""
        return [i for i, stop in enumerate(self.ends) if self.hidden[i, :stop].any()]

    def read(self, model: TokenBackbone, row: Tensor, column: Tensor, place: torch.device) -> Tensor:
        """The states of places (N,) of rows (N,), which are read whole: (N, D) on the device."""
        rows, which = row.unique(return_inverse=True)
        x, segments = self.x[rows].to(place), self.segments[rows].to(place)
        return states(model, x, segments, "both")[which.to(place), self.at[row, column].to(place)]

    def write(self, row: Tensor, column: Tensor, steps: Sequence[Step], end: int) -> None:
        """Put ids into places (N,) of rows (N,)."""
        self.x[row, self.at[row, column]] = torch.tensor([step.id for step in steps])
        self.hidden[row, column] = False
        for i, j, step in zip(row.tolist(), column.tolist(), steps, strict=True):
            self.found[i][j] = step
            if step.id == end:
                self.ends[i] = min(self.ends[i], j)

    def written(self) -> list[list[Step]]:
        """What was written in each row, in order of the text, up to the document's end."""
        stops = [min(stop + 1, self.hidden.shape[1]) for stop in self.ends]
        return [[one[j] for j in range(stop)] for one, stop in zip(self.found, stops, strict=True)]


@torch.no_grad()
def fill_in(
    model: TokenBackbone,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    choice: Choice,
    *,
    end: int,
    never: Sequence[int] = (),
    steps: int | None = None,
    device: torch.device | None = None,
) -> list[list[Step]]:
    """The ids that stand in `tokens` places after each prompt, up to the first `end`.

    Args:
        choice: with a temperature of 0 the surest places are filled in first, each with its likeliest id;
            with any other, places and ids are drawn. A step's p is that at which its id was drawn.
        end: the id with which a document ends. A row is done when nothing is hidden before one.
        never: ids that are not drawn; the mask is one of them anyway.
        steps: in which all is filled in; None: as many as there are places.
        device: where the backbone runs meanwhile; None: where it is.

    Raises:
        DataError: rows longer than the backbone takes.
        ValueError: fewer steps than 1, or a vocabulary without a mask.
    """
    steps = max(tokens, 1) if steps is None else steps
    if steps < 1:
        raise ValueError(f"text is filled in in 1 step or more, not {steps}")
    mask = mask_id(model.vocabulary)
    if not prompts:
        return []
    place = device_of(model) if device is None else device
    canvas = Canvas(prompts, tokens, mask)
    noise = torch.stack([choice.noise(i, 2, tokens) for i in range(len(prompts))])
    turn = (noise[:, 0] * steps).long()  # (B, L), in which step each place is unmasked
    with evaluating(model, place):
        weight = model.word_embedding().weight

        def logits(code: Tensor) -> Tensor:
            scores = (code @ weight.T).float()
            scores[:, [mask, *never]] = -torch.inf
            return scores

        for step in range(steps):
            if not (rows := canvas.open()):
                break
            now = torch.zeros_like(canvas.hidden)
            now[rows] = canvas.hidden[rows] if choice.temperature == 0 else turn[rows] == step
            row, column = now.nonzero(as_tuple=True)
            if not len(row):
                continue
            code = canvas.read(model, row, column, place)
            held = max(1, HELD // len(weight))
            if choice.temperature == 0:
                sure = torch.cat([logits(part).softmax(1).amax(1) for part in code.split(held)]).cpu()
                count = tokens // steps + (step < tokens % steps)
                best = surest(sure, row, count)
                row, column, code = row[best], column[best], code[best.to(place)]
            u = noise[row, 1, column].split(held)
            parts = zip(code.split(held), u, strict=True)
            taken = [one for part, at in parts for one in drawn(logits(part).cpu(), choice, at)]
            canvas.write(row, column, taken, end)
    return canvas.written()


def surest(sure: Tensor, row: Tensor, count: int) -> Tensor:
    """Of places with these probabilities (N,) in these rows (N,), ascending, the `count` highest of each row.

    Of places that are equally sure, the first. Returns indices (M,) int64, ascending.
    """
    kept = []
    for i in row.unique().tolist():
        mine = (row == i).nonzero()[:, 0]
        kept.append(mine[sure[mine].sort(descending=True, stable=True).indices[:count]])
    return torch.cat(kept).sort().values
