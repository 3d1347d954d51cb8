"""Label budgets and seeds: which labelled rows a probe may learn from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ssl_zoo.data.rows import DataError


def drawable(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds as ints.

    Raises:
        ValueError: none, one twice (which would count as two draws), a negative one or a fraction.
    """
    found = tuple(int(seed) for seed in seeds)
    if not found:
        raise ValueError("seeds is empty: give at least one")
    if list(found) != list(seeds) or min(found) < 0 or len(set(found)) < len(found):
        raise ValueError(f"seeds must be whole numbers from 0, and each another one, not {list(seeds)}")
    return found


def budget(y: np.ndarray, labels: int | float | None, seed: int, names: Sequence[str] = ()) -> np.ndarray:
    """Sorted index of the labelled rows that may be used.

    Each class is shuffled by (seed, class) and its first rows are kept, so with one seed a small
    budget is contained in every larger one.

    Args:
        y: (N,) labels.
        labels: an int is a count per class; a float in (0, 1) is the fraction of each class, at least
            one row; None is everything.
        seed: another seed draws other rows.
        names: of the classes, where there are any.

    Raises:
        DataError: a budget outside those ranges, or a class with fewer rows than asked for.
    """
    if labels is None:
        return np.arange(len(y))
    if isinstance(labels, bool) or not isinstance(labels, (int, float)):
        raise DataError(
            f"a label budget is a number of rows per class, a fraction, or null for all, not {labels!r}"
        )
    if isinstance(labels, float) and not 0 < labels < 1:
        raise DataError(
            f"a label fraction must lie in (0, 1), not {labels}; use an int for a count per class"
        )
    if isinstance(labels, int) and labels < 1:
        raise DataError(f"a label budget must be at least 1 per class, not {labels}")
    chosen, lacking = [], []
    present = np.unique(y)
    for label in present:
        members = np.flatnonzero(y == label)
        count = labels if isinstance(labels, int) else max(1, round(labels * len(members)))
        if count > len(members):
            lacking.append((len(members), int(label)))
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(members)[:count])
    if lacking:
        fewest, label = min(lacking)
        raise DataError(
            f"class {called(label, names)} has {fewest} labelled rows, fewer than the {labels} asked for "
            f"(so it is with {len(lacking)} of {len(present)} classes): take labels={fewest} or fewer, a "
            "fraction, or null"
        )
    return np.sort(np.concatenate(chosen))


def called(label: int, names: Sequence[str]) -> str:
    """A class as messages name it: by its name, or its number where it has none."""
    return repr(names[label]) if label < len(names) else str(label)


def warn_of_single_rows(y: np.ndarray, names: Sequence[str] = ()) -> None:
    """Warn of classes that have one labelled row alone, and say how many there are.

    Args:
        y: (N,) labels. names: of the classes, where there are any.
    """
    present, counts = np.unique(y, return_counts=True)
    single = present[counts == 1]
    if len(single):
        first = called(int(single[0]), names)
        warnings.warn(
            f"{len(single)} of {len(present)} classes have one labelled row to learn from, class {first} the "
            "first of them: what is measured of such a class hangs on that row",
            stacklevel=3,
        )
