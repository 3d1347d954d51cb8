"""The transfer protocols: frozen settings, and how each fits a backbone to a task.

A protocol sees train and validation rows, never the test: `evaluate` opens that when all is fitted.
Every hyper-parameter is chosen on validation over one grid, the same for all backbones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.rows import DataError, Rows, Subset
from ssl_zoo.pace import Progress
from ssl_zoo.transfer import knn, linear
from ssl_zoo.transfer.features import FeatureSet, extract, row_flops
from ssl_zoo.transfer.metrics import Metric, score, true_labels
from ssl_zoo.views.recipes import crop_flip

if TYPE_CHECKING:
    from ssl_zoo.transfer.finetune import Tuned


@dataclass(frozen=True)
class Task:
    """What a protocol may see, which is no test rows.

    Attributes:
        train, validation: labelled rows.
        draws: seed -> index of the train rows whose labels it may use.
        classes: how many classes there are.
        metric: what validation chooses by.
        device: where the backbone runs.
    """

    train: Rows
    validation: Rows
    draws: dict[int, np.ndarray]
    classes: int
    metric: Metric
    device: torch.device


class Fitted(NamedTuple):
    """What a protocol has fitted, for each seed.

    Attributes:
        predict: rows -> predicted classes (N,), one tensor for each seed.
        chosen: the settings of each seed.
        details: lists with one item for each seed. "flops" is what fitting took (see `ssl_zoo.flops`) with
            the settings that were chosen, without the search for them.
        models: what predicts, where that is a backbone and a linear head on its pooled features.
    """

    predict: Callable[[Rows], list[Tensor]]
    chosen: list[dict[str, Any]]
    details: dict[str, list[Any]]
    models: Sequence[tuple[Backbone, nn.Linear]] = ()


class Protocol(Interface):
    """A way to use a backbone for a task.

    Attributes:
        name: what the result calls it.
        stochastic: whether seeds matter when all labels are used.
    """

    name: ClassVar[str]
    stochastic: ClassVar[bool]

    def fit(self, backbone: Backbone, task: Task) -> Fitted:
        """Choose and fit everything, once for each seed of `task.draws`. The backbone is left as it was."""
        ...


def _frozen(
    backbone: Backbone, task: Task, batch_size: int, layers: bool = False
) -> tuple[list[FeatureSet], FeatureSet, Callable[[Rows], FeatureSet], dict[str, list[Any]]]:
    """Train features of each draw, validation features, how to read those of other rows, and what it cost."""

    def read(rows: Rows) -> FeatureSet:
        return extract(backbone, rows, device=task.device, batch_size=batch_size, layers=layers)

    union = np.unique(np.concatenate(list(task.draws.values())))
    features = read(task.train if len(union) == len(task.train) else Subset(task.train, union))
    trains = [features.take(np.searchsorted(union, index)) for index in task.draws.values()]
    each = row_flops(backbone, task.train)
    cost = {"flops": [each * len(train.pooled) for train in trains]}
    return trains, read(task.validation), read, cost


def linear_head(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The layer with this weight (C, D) and bias (C,)."""
    with torch.random.fork_rng(devices=[]):  # nn.Linear draws weights that are overwritten here
        head = nn.Linear(weight.shape[1], len(weight))
    head.load_state_dict({"weight": weight, "bias": bias})
    return head


@dataclass(frozen=True)
class Knn:
    """Weighted nearest neighbours on frozen features (see `transfer.knn`)."""

    name: ClassVar[str] = "knn"
    stochastic: ClassVar[bool] = False
    ks: Sequence[int] = (1, 5, 20, 100, 200)
    temperatures: Sequence[float] = (0.02, 0.07, 0.2)
    batch_size: int = 256

    def fit(self, backbone: Backbone, task: Task) -> Fitted:
        trains, validation, read, cost = _frozen(backbone, task, self.batch_size)
        best = [
            knn.choose(train, validation, task.classes, self.ks, self.temperatures, task.metric)
            for train in trains
        ]

        def predict(rows: Rows) -> list[Tensor]:
            queries = read(rows).pooled
            guesses = []
            for train, (k, t, _) in zip(trains, best, strict=True):
                assert train.y is not None, "choosing needed the labels"
                guesses += knn.predict(queries, train.pooled, train.y, task.classes, (k,), (t,)).values()
            return guesses

        return Fitted(predict, [one._asdict() for one in best], cost)


@dataclass(frozen=True)
class Linear:
    """Logistic regression on frozen features (see `transfer.linear`)."""

    name: ClassVar[str] = "linear"
    stochastic: ClassVar[bool] = False
    weight_decays: Sequence[float] = linear.WEIGHT_DECAYS
    batch_size: int = 256

    def fit(self, backbone: Backbone, task: Task) -> Fitted:
        trains, validation, read, cost = _frozen(backbone, task, self.batch_size)
        probes = [
            linear.choose(train, validation, task.classes, self.weight_decays, task.metric)
            for train in trains
        ]

        def predict(rows: Rows) -> list[Tensor]:
            x = read(rows).pooled
            return [probe.classifier.logits(x).argmax(1) for probe in probes]

        chosen = [{"weight_decay": one.weight_decay, "validation": one.validation} for one in probes]
        models = [(backbone, linear_head(*one.classifier.folded())) for one in probes]
        return Fitted(predict, chosen, cost, models)


@dataclass(frozen=True)
class Layers:
    """The linear probe of each depth: validation chooses the depth, test scores that one alone.

    Of an image backbone a depth is after a block; of a text backbone, depth 0 is the mean of the embeddings.
    The validation score of every depth is in `details["curve"]`, one list for each seed; of text backbones,
    whose first depth is 0 and not 1, `details["first"]` says so.
    """

    name: ClassVar[str] = "layers"
    stochastic: ClassVar[bool] = False
    weight_decays: Sequence[float] = linear.WEIGHT_DECAYS
    batch_size: int = 256

    def fit(self, backbone: Backbone, task: Task) -> Fitted:
        trains, validation, read, cost = _frozen(backbone, task, self.batch_size, layers=True)
        curves = [
            linear.probe_layers(train, validation, task.classes, self.weight_decays, task.metric)
            for train in trains
        ]
        best = [max(range(len(curve)), key=lambda i, c=curve: c[i].validation) for curve in curves]
        picks = [(layer, curve[layer]) for layer, curve in zip(best, curves, strict=True)]

        def predict(rows: Rows) -> list[Tensor]:
            x = read(rows).layers
            return [probe.classifier.logits(x[layer]).argmax(1) for layer, probe in picks]

        chosen = [
            {"layer": layer, "weight_decay": probe.weight_decay, "validation": probe.validation}
            for layer, probe in picks
        ]
        details = {"curve": [[probe.validation for probe in curve] for curve in curves], **cost}
        if validation.first != 1:
            details["first"] = [validation.first] * len(curves)
        return Fitted(predict, chosen, details)


@dataclass(frozen=True)
class Finetune:
    """Training of everything (see `transfer.finetune`). The learning rate is chosen with the first seed.

    Args:
        lrs: learning rates of the head to choose from.
        head_start: "zero", or "probe": the linear probe chosen on validation (LP-FT).
        augment: a view of float images; None for none. Texts are left alone. Where left and right
            differ (digits), give one that does not mirror.
    """

    name: ClassVar[str] = "finetune"
    stochastic: ClassVar[bool] = True
    lrs: Sequence[float] = (1e-4, 3e-4, 1e-3)
    steps: int = 500
    batch_size: int = 64
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    warmup: float = 0.1
    dropout: float = 0.0
    head_start: Literal["zero", "probe"] = "zero"
    augment: Callable[[Tensor], Tensor] | None = field(default_factory=lambda: crop_flip(scale=(0.6, 1.0)))
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def fit(self, backbone: Backbone, task: Task) -> Fitted:
        from ssl_zoo.transfer.finetune import classify  # Lightning takes seconds to import

        if not self.lrs or self.head_start not in ("zero", "probe"):
            raise ValueError(
                f"fine-tuning needs learning rates, and a head that starts at zero or probe, not "
                f"lrs={list(self.lrs)} and head_start={self.head_start}"
            )
        y = torch.from_numpy(true_labels(task.validation, "validation"))
        scores, runs = {}, {}
        first, *rest = task.draws
        head = self._head(backbone, task, first)
        with Progress("fine-tuning", self.steps * (len(self.lrs) + len(rest))) as progress:
            for lr in self.lrs:
                runs[lr] = self._run(backbone, head, task, first, lr, progress)
                if runs[lr].diverged():
                    warnings.warn(f"fine-tuning diverged with lr={lr:g}, which is not chosen", stacklevel=2)
                else:
                    guess = classify(runs[lr], task.validation, device=task.device)
                    scores[lr] = score(task.metric, guess, y, task.classes)
            if not scores:
                raise DataError(f"fine-tuning diverged with all of lrs={list(self.lrs)}: add a lower one")
            best = max(scores, key=lambda lr: scores[lr])
            models = [runs[best]]
            for seed in rest:
                models.append(
                    self._run(backbone, self._head(backbone, task, seed), task, seed, best, progress)
                )

        def predict(rows: Rows) -> list[Tensor]:
            return [classify(model, rows, device=task.device) for model in models]

        chosen = [{"lr": best, "validation": scores[best]}] + [{"lr": best} for _ in rest]
        cost = {
            "flops": [model.flops for model in models],
            "training_seconds": [model.seconds for model in models],
        }
        return Fitted(predict, chosen, cost, [(model.backbone, model.head) for model in models])

    def _head(self, backbone: Backbone, task: Task, seed: int) -> nn.Linear:
        weight, bias = torch.zeros(task.classes, backbone.dim), torch.zeros(task.classes)
        if self.head_start == "probe":
            train = extract(backbone, Subset(task.train, task.draws[seed]), device=task.device)
            validation = extract(backbone, task.validation, device=task.device)
            probe = linear.choose(train, validation, task.classes, metric=task.metric)
            weight, bias = probe.classifier.folded()
        return linear_head(weight, bias)

    def _run(
        self, backbone: Backbone, head: nn.Linear, task: Task, seed: int, lr: float, progress: Progress
    ) -> Tuned:
        from ssl_zoo.transfer.finetune import finetune

        return finetune(
            backbone,
            Subset(task.train, task.draws[seed]),
            head,
            lr=lr,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=seed,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            warmup=self.warmup,
            dropout=self.dropout,
            augment=self.augment,
            precision=self.precision,
            device=task.device,
            progress=progress,
        )
