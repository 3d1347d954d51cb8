"""Label efficiency: how many labels training from scratch needs to be as good as a pretrained backbone.

A curve is accuracy over labels per class. Between two measured points it is read as linear in log labels:

    a(n) = a_i + (a_{i+1} - a_i) * log(n / n_i) / log(n_{i+1} / n_i)

and a(n) = A is solved for the smallest n. Outside the measured points nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Curve = Sequence[tuple[float, float]]  # (labels per class, mean accuracy), more labels to the right


@dataclass(frozen=True)
class Saved:
    """What pretraining saves at one point of its curve.

    Attributes:
        labels: labels per class the pretrained backbone had. accuracy: what it reached with them.
        needed: labels per class from scratch for the same accuracy; None outside the scratch curve.
        outside: "more than 4500" or "fewer than 1" where `needed` is None, else empty.
    """

    labels: float
    accuracy: float
    needed: float | None
    outside: str = ""

    @property
    def factor(self) -> float | None:
        """How many times the labels scratch needs; below 1 where pretraining costs labels."""
        return None if self.needed is None else self.needed / self.labels

    @property
    def saved(self) -> float | None:
        """Labels per class that need not be made; negative where pretraining costs labels."""
        return None if self.needed is None else self.needed - self.labels


def labels_saved(pretrained: Curve, scratch: Curve) -> list[Saved]:
    """What each point of the pretrained curve saves.

    Raises:
        ValueError: an empty scratch curve, or labels that do not grow along a curve.
    """
    for name, curve in (("pretrained", pretrained), ("scratch", scratch)):
        labels = [n for n, _ in curve]
        if any(n <= 0 for n in labels) or any(a >= b for a, b in pairwise(labels)):
            raise ValueError(f"labels of the {name} curve must be positive and grow, not {labels}")
    if not scratch:
        raise ValueError("the scratch curve is empty: run the floor from scratch on this measure")
    return [_saved(labels, accuracy, scratch) for labels, accuracy in pretrained]


def _saved(labels: float, accuracy: float, scratch: Curve) -> Saved:
    first, start = scratch[0]
    if accuracy < start:
        return Saved(labels, accuracy, None, f"fewer than {first:g}")
    if accuracy == start:
        return Saved(labels, accuracy, first)
    for (n, a), (m, b) in pairwise(scratch):
        if b >= accuracy:  # the first segment that gets there: a < accuracy, since none before it did
            share = (accuracy - a) / (b - a)
            return Saved(labels, accuracy, math.exp(math.log(n) + share * math.log(m / n)))
    return Saved(labels, accuracy, None, f"more than {scratch[-1][0]:g}")
