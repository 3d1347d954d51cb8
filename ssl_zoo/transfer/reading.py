"""The states from which rows that are being written go on: of each row's last id.

A backbone that keeps what it made of earlier ids (`backbones.stepping`) reads each id once. Any other reads
the whole row again for each id, and so do all where a row outgrows its window: its earliest id leaves it, all
others move up by one position, and nothing that was kept is true any more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_zoo.backbones._base import Order, TokenBackbone
from ssl_zoo.backbones.stepping import Steps, steps_of
from ssl_zoo.transfer.causal import inputs_first, states
from ssl_zoo.transfer.unmasking import laid_out


def order_of(model: TokenBackbone, inputs: Sequence[int], width: int, place: torch.device) -> Order:
    """Who sees whom in rows of this width, as the model writes (see `causal.inputs_first`)."""
    return "causal" if model.writes == "next" else inputs_first(inputs, width, place)


def last_states(
    model: TokenBackbone,
    rows: Sequence[Sequence[int]],
    inputs: Sequence[int],
    place: torch.device,
    mark: Tensor | None = None,
) -> Tensor:
    """The state of each row's last id, from which the next one is predicted: (B, D) on the device.

    Args:
        rows: of any lengths. inputs: how many ids of each one are its inputs, below 1 where none is left.
        mark: see `causal.states`.
    """
    x, _ = laid_out(rows)
    last = torch.tensor([len(row) - 1 for row in rows], device=place)
    code = states(model, x.to(place), order=order_of(model, inputs, x.shape[1], place), mark=mark)
    return code[torch.arange(len(rows), device=place), last]


class Reader:
    """Reads rows that grow by an id at a time.

    Args:
        model: in evaluation mode on `place`.
        inputs: how many ids of each row are its inputs (see `last_states`).
        length: ids in the window that is read.
        mark: see `causal.states`.
    """

    def __init__(
        self,
        model: TokenBackbone,
        inputs: Sequence[int],
        length: int,
        place: torch.device,
        mark: Tensor | None = None,
    ):
        self.model, self.inputs, self.length, self.place, self.mark = model, inputs, length, place, mark
        self.most = min(length, model.max_length or length)  # ids of a row that is kept
        self.keeps = True  # until it is known to keep nothing
        self.steps: Steps | None = None
        self.kept: list[int] = []  # the rows of which earlier ids are kept

    def last(self, rows: Sequence[Sequence[int]], active: Sequence[int]) -> Tensor:
        """The states (N, D) of the last ids of the rows (N,) `active`, on the device.

        From the second call on, each of them is longer by one id than at the call before.

        Raises:
            DataError: a window longer than the backbone takes.
        """
        short = [i for i in active if len(rows[i]) <= self.most]
        parts: dict[int, Tensor] = {}
        if self.keeps and short:
            known = self.begin(rows, short) if self.steps is None else self.go_on(rows, short)
            parts |= dict(zip(self.kept, known, strict=True))
        if anew := [i for i in active if i not in parts]:
            windows = [rows[i][-self.length :] for i in anew]
            left = [self.inputs[i] - max(0, len(rows[i]) - self.length) for i in anew]
            found = last_states(self.model, windows, left, self.place, self.mark)
            parts |= dict(zip(anew, found, strict=True))
        return torch.stack([parts[i] for i in active])

    def begin(self, rows: Sequence[Sequence[int]], which: Sequence[int]) -> Sequence[Tensor]:
        """The states of the last ids of these rows, which are kept from now on; none if nothing is kept."""
        counts = torch.tensor([len(rows[i]) for i in which], device=self.place)
        self.steps = steps_of(self.model, counts)
        if self.steps is None:
            self.keeps = False
            return ()
        self.kept = list(which)
        x = laid_out([rows[i] for i in which])[0].to(self.place)
        order = order_of(self.model, [self.inputs[i] for i in which], x.shape[1], self.place)
        code = self.steps.begin(self.embedded(x), order)  # (N, T, D)
        return list(code[torch.arange(len(x), device=self.place), counts - 1])

    def go_on(self, rows: Sequence[Sequence[int]], which: Sequence[int]) -> Sequence[Tensor]:
        """The states of the last ids of those of these rows that are kept; all others are forgotten."""
        assert self.steps is not None
        still = [n for n, i in enumerate(self.kept) if i in which]
        if len(still) < len(self.kept):
            self.kept = [self.kept[n] for n in still]
            self.steps.keep(torch.tensor(still, dtype=torch.int64, device=self.place))
        if not self.kept:
            return ()
        x = torch.tensor([[rows[i][-1]] for i in self.kept], device=self.place)
        return list(self.steps.go_on(self.embedded(x))[:, 0])

    def embedded(self, x: Tensor) -> Tensor:
        """Ids (N, T), among them V for the mark, -> (N, T, D)."""
        if self.mark is None:
            return self.model.embed(x)
        marked = x == self.model.word_embedding().num_embeddings
        return torch.where(marked[..., None], self.mark, self.model.embed(x.masked_fill(marked, 0)))
