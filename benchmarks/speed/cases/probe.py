"""The linear probe of a whole grid: every layer and weight decay, on features that lie ready."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from duel import Case, Gate

from cases.images import SIMCLR
from cases.material import recipe, scratch
from ssl_zoo.transfer.features import FeatureSet, extract, labels_of
from ssl_zoo.transfer.linear import WEIGHT_DECAYS, probe_layers

STEPS, TRAIN, VALIDATION = 40, 10_000, 2000


def features() -> tuple[FeatureSet, FeatureSet]:
    """All layers of a ResNet after some steps of SimCLR; made once: both sides read the same file."""
    file = scratch() / f"probe-{SIMCLR[-1]}-{STEPS}-{TRAIN}-{VALIDATION}.pt"
    if not file.exists():
        parts = recipe(*SIMCLR)
        optimizer = parts.optimizer(parts.objective)
        order = np.random.default_rng(0).permutation(len(parts.rows))
        for step in range(STEPS):
            at = np.arange(step * parts.batch_size, (step + 1) * parts.batch_size) % len(order)
            parts.objective(parts.rows.read(order[at])).value.backward()
            optimizer.step()
            optimizer.zero_grad()
        everything = extract(parts.objective.backbone, parts.rows, layers=True)
        first = min(TRAIN, 2 * len(order) // 3)
        sets = [everything.take(part) for part in (order[:first], order[first : first + VALIDATION])]
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save([tuple(part) for part in sets], file.with_suffix(".draft"))
        file.with_suffix(".draft").rename(file)
    train, validation = (FeatureSet(*part) for part in torch.load(file))
    return train, validation


def ours(gate: Gate) -> None:
    train, validation = features()
    classes = int(labels_of(train).max()) + 1
    gate(0)
    while True:
        best = max(probe.validation for probe in probe_layers(train, validation, classes))
        gate.note(accuracy=best)
        gate(1)


def sklearn(gate: Gate) -> None:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    warnings.simplefilter("ignore", ConvergenceWarning)
    train, validation = features()
    y, held_out = labels_of(train).numpy(), labels_of(validation).numpy()
    layers = [(a.numpy(), b.numpy()) for a, b in zip(train.layers, validation.layers, strict=True)]
    gate(0)
    while True:
        scores = []
        for x, queries in layers:
            scale = StandardScaler().fit(x)
            z, q = scale.transform(x), scale.transform(queries)
            for decay in WEIGHT_DECAYS:
                model = LogisticRegression(C=1 / (len(z) * decay), max_iter=1000).fit(z, y)
                scores.append(model.score(q, held_out))
        gate.note(accuracy=max(scores))
        gate(1)


def probe() -> Case:
    return Case(
        title=f"linear probes of 4 layers x {len(WEIGHT_DECAYS)} weight decays, {TRAIN:,} features, 10 "
        "classes, 2 cores",
        unit="grids/s",
        against="scikit-learn's LogisticRegression at each point of the grid",
        sides={"ssl_zoo": ours, "scikit-learn": sklearn},
        bar=10.0,
        same="features of a ResNet of 0.7 M after some steps of SimCLR (widths 16, 48, 96, 192), "
        "standardised; objective, grid, choice on validation; fp32, L-BFGS, threads",
        differs="ours starts each weight decay from the solution before and stops at 100 iterations; "
        "scikit-learn starts each cold, as GridSearchCV does, and may take 1,000. `accuracy` is that of the "
        "classifier chosen on the validation rows",
        threads=2,
        seconds=2.0,
        rounds=2,
    )


CASES = {"probe": probe}
