"""The contract of an objective, and the sum of several on one backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import KINDS, Backbone, Kind, TokenBackbone


class Batch(NamedTuple):
    """x: uint8 images (B, C, H, W), or int64 ids (B, T).
    segments: (B, T) document of each token, -1 = padding; None: one full document a row.
    y: (B,) labels; only supervised code reads them."""

    x: Tensor
    segments: Tensor | None = None
    y: Tensor | None = None


@dataclass
class Loss:
    """value: the scalar to minimise. parts: detached scalars to log. counts: of how many each part is the
    mean, where that is not the number of rows; batches are averaged by it."""

    value: Tensor
    parts: dict[str, Tensor]
    counts: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """A backbone together with what it is asked to do.

    Attributes:
        family: the heading under which `ssl-zoo list` shows the objective.
        takes: the kinds of backbone it can train (`backbones._base.KINDS`).
        rows: how text is laid out for it: "packed" rows full of documents, or one "document" a row.
        lookahead: ids read past the context because they are only ever targets.
        whole_batch: whether the loss compares the samples of a batch with each other, so that
            accumulated halves are not one larger batch.
        tiny: arguments with which tests build it small; what is left out keeps its default.
        t: buffer, fraction of training done, in [0, 1].
    """

    family: ClassVar[str] = ""
    takes: ClassVar[tuple[Kind, ...]] = ()
    rows: Literal["packed", "document"] = "packed"
    lookahead: int = 0
    whole_batch: bool = False
    tiny: ClassVar[dict[str, Any]] = {}
    t: Tensor

    def __init__(self, backbone: Backbone):
        super().__init__()
        if backbone.modality not in {KINDS[kind][0] for kind in self.takes}:
            works = ", ".join(KINDS[kind][1] for kind in self.takes)
            raise ValueError(
                f"{type(self).__name__} cannot train {type(backbone).__name__}, which reads "
                f"{backbone.modality}s; it takes {works}"
            )
        self.backbone = backbone
        self.register_buffer("t", torch.zeros(()))
        self.register_forward_pre_hook(_refuse_no_rows)

    @abstractmethod
    def forward(self, batch: Batch) -> Loss:
        """The loss of this process's rows of one batch."""

    def advance(self, t: float) -> None:
        """Called after each optimizer step with the fraction of training done."""
        self.t.fill_(t)


def _refuse_no_rows(objective: nn.Module, args: tuple[Batch]) -> None:
    if args and not len(args[0].x):
        raise ValueError(
            f"{type(objective).__name__} was given a batch of no rows: the mean of nothing is NaN"
        )


class Sum(Objective):
    """Weighted sum of objectives on one shared backbone and one batch.

    The backbone runs once per term; each term makes its own views of the batch. Where terms set the
    backbone's order (causal or not), the first one decides how features are read afterwards.

    Args:
        backbone: shared by all terms.
        terms: name -> a function that builds the objective on a backbone (a class, a partial).
        weights: name -> weight; a name left out weighs 1.

    Raises:
        ValueError: no terms, a weight without a term, or terms that want text laid out differently.
    """

    family = "composition"
    takes = ("vit", "cnn", "transformer", "encoder", "decoder")

    def __init__(
        self,
        backbone: Backbone,
        terms: Mapping[str, Callable[[Backbone], Objective]],
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__(backbone)
        weights = weights or {}
        if not terms:
            raise ValueError("Sum needs at least one term")
        if unknown := sorted(set(weights) - set(terms)):
            raise ValueError(f"weights for {unknown}, but the terms are {sorted(terms)}")
        built: dict[str, Objective] = {}
        order = None
        for name, build in terms.items():
            built[name] = build(backbone)
            if order is None and isinstance(backbone, TokenBackbone):
                order = backbone.order
        if order is not None and isinstance(backbone, TokenBackbone):
            backbone.order = order
        self.terms = nn.ModuleDict(built)
        self.weights = {name: float(weights.get(name, 1.0)) for name in terms}
        layouts = {name: term.rows for name, term in built.items()}
        if len(set(layouts.values())) > 1 and backbone.modality == "text":
            raise ValueError(f"these terms want text laid out differently: {layouts}")
        self.rows = next(iter(layouts.values()))  # pyright: ignore[reportAttributeAccessIssue]
        self.lookahead = max(term.lookahead for term in built.values())
        self.whole_batch = any(term.whole_batch for term in built.values())

    def forward(self, batch: Batch) -> Loss:
        losses = {name: term(self.share(batch, term)) for name, term in self.terms.items()}
        total = sum(self.weights[name] * loss.value for name, loss in losses.items())
        parts = {f"{name}/loss": loss.value.detach() for name, loss in losses.items()}
        counts = {}
        for name, loss in losses.items():
            parts |= {f"{name}/{part}": value for part, value in loss.parts.items()}
            counts |= {f"{name}/{part}": count for part, count in loss.counts.items()}
        return Loss(total, parts, counts)  # pyright: ignore[reportArgumentType]

    def share(self, batch: Batch, term: nn.Module) -> Batch:
        """What one term reads: the context, and no more ids past it than the term looks ahead."""
        extra = self.lookahead - term.lookahead  # pyright: ignore[reportOperatorIssue]
        if not extra or self.backbone.modality != "text":
            return batch
        segments = None if batch.segments is None else batch.segments[:, :-extra]
        return Batch(batch.x[:, :-extra], segments, batch.y)

    def advance(self, t: float) -> None:
        super().advance(t)
        for term in self.terms.values():
            term.advance(t)  # pyright: ignore[reportCallIssue]
