"""Splits that a data set lacks, carved from its training samples: stratified, and by a seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ssl_zoo.data.rows import DataError


def carve_parts(
    y: np.ndarray, fractions: Mapping[str, float], seed: int, names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """What `carve` makes of training samples, by the name of the part; one without a fraction is empty.

    Test is carved first: which samples it gets then does not depend on how large validation is.

    Args:
        y, seed, names: see `carve`.
        fractions: "validation" and "test" -> their fraction of each class.

    Raises:
        DataError: as `carve`.
    """
    shares = [fractions.get(part, 0.0) for part in ("test", "validation")]
    train, test, validation = carve(y, shares, seed, names)
    return {"train": train, "validation": validation, "test": test}


def carve(
    y: np.ndarray, fractions: Sequence[float], seed: int, names: Sequence[str] = ()
) -> list[np.ndarray]:
    """Cut N samples into disjoint parts, class by class.

    Args:
        y: (N,) int64 classes.
        fractions: of each class, for all parts but the first, which keeps the rest. A part with a
            fraction above 0 gets at least one sample of each class.
        seed: decides alone which samples; a later fraction does not move the part of an earlier one.
        names: of the classes, for the error message.

    Returns:
        The sorted indices of the rest and then of each fraction, int64.

    Raises:
        DataError: a class has too few samples for every part to get one.
    """
    # Raw bits of a bit generator are the one random stream that NumPy promises never to change.
    keys = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(len(y))
    order = np.lexsort((keys, y))
    classes, starts, counts = np.unique(y[order], return_index=True, return_counts=True)
    place = np.arange(len(y)) - np.repeat(starts, counts)  # of each sample, among those of its class
    parts, taken = [], np.zeros_like(counts)
    for fraction in fractions:
        wanted = np.maximum(1, np.floor(fraction * counts + 0.5).astype(np.int64)) * (fraction > 0)
        first, taken = taken, taken + wanted
        inside = (place >= np.repeat(first, counts)) & (place < np.repeat(taken, counts))
        parts.append(np.sort(order[inside]))
    if (poor := np.flatnonzero(taken >= counts)).size:
        label = int(classes[poor[0]])
        raise DataError(
            f"class {names[label] if label < len(names) else label!r} has {counts[poor[0]]} sample(s), too "
            f"few to carve {' and '.join(f'{f:g}' for f in fractions if f)} off for validation and test "
            f"({poor.size} such class(es)): give those splits as sources, set their fractions to 0, or "
            "add samples"
        )
    return [np.sort(order[place >= np.repeat(taken, counts)]), *parts]
