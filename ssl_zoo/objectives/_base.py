"""The contract of an objective, and the sum of several on one backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import KINDS, Backbone, Kind, TokenBackbone, Writes
from ssl_zoo.objectives._shown import Shown


class Batch(NamedTuple):
    """x: uint8 images (B, C, H, W), or int64 ids (B, T).
    segments: (B, T) document of each token, -1 = padding; None: one full document a row.
    y: (B,) labels; only supervised code reads them.
    index: (B,) int64 number of each row in its data set.
    other: the second half of each pair, for example the caption of an image; row by row."""

    x: Tensor
    segments: Tensor | None = None
    y: Tensor | None = None
    index: Tensor | None = None  # pyright: ignore[reportIncompatibleMethodOverride]
    other: Batch | None = None


@dataclass
class Loss:
    """What an objective says of a batch.

    value: the scalar to minimise.
    parts: detached scalars to log, by name.
    counts: of how many things a part is the mean, where that is not the number of rows; a mean over batches
        is weighted by it."""

    value: Tensor
    parts: dict[str, Tensor]
    counts: dict[str, Tensor] = field(default_factory=dict)


class Tune(NamedTuple):
    """What an objective asks of the optimizer for one of its parameters.

    lr: factor on the learning rate.
    decay: weight decay of its own; None: the optimizer's, if the parameter is one that decays.
    constant: whether its learning rate stays the same while the schedule moves that of the others."""

    lr: float = 1.0
    decay: float | None = None
    constant: bool = False


READS = ("x", "y", "index", "other")
OLD = {"rows": "layout"}  # former name of a class attribute -> its name now
Layout = Literal["packed", "document"]
B = TypeVar("B", bound=Backbone)


class Objective(nn.Module, ABC, Generic[B]):
    """A backbone together with what it is asked to do.

    `Objective[TokenBackbone]` says to a type checker what `backbone` is; `takes` says it to users.

    Attributes:
        family: the heading under which `ssl-zoo list` shows the objective.
        takes: the kinds of backbone it can train (`backbones._base.KINDS`).
        reads: which fields of a batch its loss depends on; `segments` goes with `x`.
        layout: how text is laid out for it: "packed" rows full of documents, or one "document" a row.
        lookahead: ids read past the context because they are only ever targets.
        writes: how a text backbone that was trained by it writes (`backbones._base.Writes`), which the
            backbone is told; None: it does not write, or its order says how.
        whole_batch: whether the loss compares the samples of a batch with each other, so that
            accumulated halves are not one larger batch.
        unit: of its loss, as charts name it; empty: none.
        tiny: arguments with which tests build it small; what is left out keeps its default.
        t: buffer, fraction of training done, in [0, 1].
    """

    family: ClassVar[str] = ""
    takes: ClassVar[tuple[Kind, ...]] = ()
    reads: tuple[str, ...] = ("x",)
    layout: Layout = "packed"
    lookahead: int = 0
    writes: Writes | None = None
    whole_batch: bool = False
    unit: ClassVar[str] = ""
    tiny: ClassVar[dict[str, Any]] = {}
    backbone: B
    t: Tensor

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if old := [name for name in OLD if name in vars(cls)]:
            raise TypeError(f"{cls.__name__}.{old[0]} is now called {OLD[old[0]]}: rename it")

    def __init__(self, backbone: B):
        super().__init__()
        if backbone.kind not in self.takes:
            works = ", ".join(KINDS[kind][1] for kind in self.takes)
            raise ValueError(
                f"{type(self).__name__} cannot train {type(backbone).__name__}, which is of the kind "
                f"{backbone.kind}; it takes {works}"
            )
        if isinstance(backbone, TokenBackbone):
            backbone.writes = self.writes  # whatever an earlier objective said
        self.backbone = backbone
        self.register_buffer("t", torch.zeros(()))
        self.register_forward_pre_hook(_refuse_unreadable)

    @abstractmethod
    def forward(self, batch: Batch) -> Loss:
        """The loss of this process's rows of one batch."""

    def advance(self, t: float) -> None:
        """Called after each optimizer step with the fraction of training done. Teachers, queues and
        centres move here, from what `forward` noted; `forward` itself changes no state."""
        self.t.fill_(t)

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        """What the optimizer is asked to do otherwise for this parameter of `named_parameters()`."""
        return Tune()

    def export(self) -> dict[str, Backbone]:
        """The backbones that are kept when training ends, by name; "backbone" is the one that is measured."""
        return {"backbone": self.backbone}

    def chance(self, rows: int) -> float | None:
        """The loss of a network that gives all samples the same features, of `rows` in the undivided batch.

        A run that stays there has learned nothing. None: it is not known, or the loss is least there."""
        return None

    def show(self, batch: Batch) -> Shown | None:
        """What a page draws of the objective's work on a few rows; None where there is nothing to see.

        It is called in evaluation mode, without gradients, and changes no state."""
        return None


def _refuse_unreadable(objective: nn.Module, args: tuple[Batch]) -> None:
    """Raise ValueError for a batch of no rows, or one without what the objective reads."""
    if not args or not isinstance(objective, Objective):
        return
    name = type(objective).__name__
    if not len(args[0].x):
        raise ValueError(f"{name} was given a batch of no rows: the mean of nothing is NaN")
    for field_ in objective.reads:
        if getattr(args[0], field_) is None:
            raise ValueError(f"{name} {LACKING[field_]}")


LACKING = {
    "y": "learns from labels, and these rows have none: take labelled data",
    "index": "reads the number of each row, and this batch has none: give Batch(index=...)",
    "other": "learns from pairs, and these rows are single: take data of pairs",
}


class Sum(Objective[Backbone]):
    """Weighted sum of objectives on one shared backbone and one batch.

    The backbone runs once per term; each term makes its own views of the batch. Where terms differ in the
    order they read the backbone in (causal or not), or in what they export, the first one decides; and the
    first one that writes says how the backbone does.

    Args:
        backbone: shared by all terms.
        terms: name -> a function that builds the objective on a backbone (a class, a partial).
        weights: name -> weight; a name left out weighs 1.
        every: name -> n: the term reads every n-th row of a batch alone; a name left out reads all. A costly
            term can so be added to one that needs large batches.

    Raises:
        ValueError: no terms, a weight or `every` without a term, or terms that want text laid out
            differently; in training, rows of one process that do not divide by `every`.
    """

    family = "composition"
    unit = "weighted sum of its terms"
    takes = ("vit", "cnn", "patches", "bag", "transformer", "encoder", "decoder")

    def __init__(
        self,
        backbone: Backbone,
        terms: Mapping[str, Callable[[Backbone], Objective]],
        weights: Mapping[str, float] | None = None,
        every: Mapping[str, int] | None = None,
    ):
        super().__init__(backbone)
        weights, every = weights or {}, every or {}
        if not terms:
            raise ValueError("Sum needs at least one term")
        for what, given in (("weights", weights), ("every", every)):
            if unknown := sorted(set(given) - set(terms)):
                raise ValueError(f"{what} for {unknown}, but the terms are {sorted(terms)}")
        if wrong := {name: n for name, n in every.items() if n < 1}:
            raise ValueError(f"every n-th row is read, n = 1 or more, not {wrong}")
        built: dict[str, Objective] = {}
        order = None
        for name, build in terms.items():
            built[name] = build(backbone)
            if order is None and isinstance(backbone, TokenBackbone):
                order = backbone.order
        self.writes = next((term.writes for term in built.values() if term.writes), None)
        if order is not None and isinstance(backbone, TokenBackbone):
            backbone.order, backbone.writes = order, self.writes
        self.terms = nn.ModuleDict(built)
        self.weights = {name: float(weights.get(name, 1.0)) for name in terms}
        self.every = {name: int(every.get(name, 1)) for name in terms}
        layouts: dict[str, Layout] = {name: term.layout for name, term in built.items()}
        if len(set(layouts.values())) > 1 and backbone.modality == "text":
            raise ValueError(f"these terms want text laid out differently: {layouts}")
        self.layout = next(iter(layouts.values()))
        self.reads = tuple(field_ for field_ in READS if any(field_ in term.reads for term in built.values()))
        self.lookahead = max(term.lookahead for term in built.values())
        self.whole_batch = any(term.whole_batch for term in built.values())

    def forward(self, batch: Batch) -> Loss:
        losses = {name: term(self.share(batch, name)) for name, term in self.terms.items()}
        total = sum(self.weights[name] * loss.value for name, loss in losses.items())
        parts = {f"{name}/loss": loss.value.detach() for name, loss in losses.items()}
        counts = {}
        for name, loss in losses.items():
            parts |= {f"{name}/{part}": value for part, value in loss.parts.items()}
            counts |= {f"{name}/{part}": count for part, count in loss.counts.items()}
        return Loss(total, parts, counts)  # pyright: ignore[reportArgumentType]

    def share(self, batch: Batch, name: str) -> Batch:
        """What one term reads: its rows of the context, and no more ids past it than the term looks ahead."""
        term, every = self.terms[name], self.every[name]
        if self.training and len(batch.x) % every:
            raise ValueError(
                f"{name} reads one row in {every}, and {len(batch.x)} rows in one process do not divide so: "
                f"take a batch_size of a multiple of {every} in each process and accumulation step"
            )
        batch = _thinned(batch, every)
        extra = self.lookahead - term.lookahead  # pyright: ignore[reportOperatorIssue]
        if not extra or self.backbone.modality != "text":
            return batch
        segments = None if batch.segments is None else batch.segments[:, :-extra]
        return batch._replace(x=batch.x[:, :-extra], segments=segments)

    def advance(self, t: float) -> None:
        super().advance(t)
        for term in self.terms.values():
            term.advance(t)  # pyright: ignore[reportCallIssue]

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        """What the term that owns the parameter asks; of the backbone, the first term that asks anything."""
        if name.startswith("terms."):
            _, term, inner = name.split(".", 2)
            return self.terms[term].tune(inner, parameter)  # pyright: ignore[reportCallIssue]
        asked = (term.tune(name, parameter) for term in self.terms.values())  # pyright: ignore[reportCallIssue]
        return next((tune for tune in asked if tune != Tune()), Tune())

    def chance(self, rows: int) -> float | None:
        known = {name: term.chance(rows // self.every[name]) for name, term in self.terms.items()}  # pyright: ignore
        if any(value is None for value in known.values()):
            return None
        return sum(self.weights[name] * value for name, value in known.items())

    def export(self) -> dict[str, Backbone]:
        found: dict[str, Backbone] = {}
        for term in self.terms.values():
            found = term.export() | found  # pyright: ignore[reportCallIssue]
        return found


def _thinned(batch: Batch, every: int) -> Batch:
    """Rows 0, every, 2 * every, ... of a batch. Where `every` divides the rows of each part of a batch, the
    rows of the parts together are those of the whole."""
    if every == 1:
        return batch
    thin: dict[str, Any] = {
        name: part[::every] for name, part in batch._asdict().items() if name != "other" and part is not None
    }
    return batch._replace(**thin, other=batch.other and _thinned(batch.other, every))
