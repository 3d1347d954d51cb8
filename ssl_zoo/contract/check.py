"""Whether an objective keeps its contract, asked for a class of your own: `ssl_zoo.check_objective`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from ssl_zoo.backbones._base import KINDS, Kind
from ssl_zoo.contract.pair import divided
from ssl_zoo.contract.rules import broken
from ssl_zoo.contract.tiny import backbone, build
from ssl_zoo.objectives._base import Objective


def check_objective(cls: type[Objective], kinds: Sequence[Kind] = ()) -> list[str]:
    """Try an objective out on tiny backbones, in one process and in two, and say what is wrong with it.

    It is built with the arguments in `tiny`, the others at their defaults. What is tried is what the trainer
    relies on: that the loss and its parts are numbers, that every trainable weight has a gradient, that
    forward passes and evaluation change no state, that a checkpoint holds all of it, that nothing is read
    which `reads` does not name, that the exported backbone opens, that bfloat16 works, that it works as a
    term of a Sum, that accumulated parts average to the whole batch unless `whole_batch` says otherwise, and
    that two processes learn what one learns.

    Args:
        cls: the class. The two processes read it from its file, so that it may not lie in a notebook, and
            code at the top of its file that is to run once belongs under `if __name__ == "__main__"`.
        kinds: of backbones to try; (): all that it takes.

    Returns:
        A sentence for each thing that is wrong; [] if nothing is.

    Raises:
        TypeError: no subclass of Objective.
        ValueError: a kind of backbone that there is not.
    """
    if not (isinstance(cls, type) and issubclass(cls, Objective)):
        raise TypeError(f"check_objective takes a subclass of ssl_zoo.Objective, not {cls!r}")
    if strange := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"kinds is a list of kinds of backbone, of {[*KINDS]}; unknown: {strange}")
    found, wrong_on = about(cls), dict[str, list[Kind]]()
    tried: Sequence[Kind] = kinds or [kind for kind in KINDS if kind in cls.takes]
    for kind in tried:

        def make(seed: int, kind: Kind = kind) -> Objective:
            return build(cls, backbone(kind, seed))

        for sentence in broken(make):
            wrong_on.setdefault(sentence, []).append(kind)
    sound: list[Kind] = [kind for kind in tried if not any(kind in wrong for wrong in wrong_on.values())]
    if sound:
        try:
            for kind, sentences in divided(cls, sound).items():
                for sentence in sentences:
                    wrong_on.setdefault(sentence, []).append(kind)
        except OSError as error:
            found.append(f"Two processes were not tried: {error}. Put the class into a file.")
    return found + [f"On {' and '.join(wrong)}: {sentence}" for sentence, wrong in wrong_on.items()]


def about(cls: type[Objective]) -> list[str]:
    """What the class does not say of itself, or says wrongly."""
    found = []
    if inspect.isabstract(cls):
        found.append(f"{cls.__name__} is abstract: it has no {', '.join(sorted(cls.__abstractmethods__))}.")
    if not cls.takes:
        found.append(
            f"{cls.__name__}.takes is empty: name the kinds of backbone it can train, of {[*KINDS]}."
        )
    if strange := [kind for kind in cls.takes if kind not in KINDS]:
        found.append(f"{cls.__name__}.takes names {strange}; the kinds are {[*KINDS]}.")
    if not cls.family:
        found.append(
            f"{cls.__name__}.family is empty: it is the heading under which the objective is listed."
        )
    if cls.layout not in ("packed", "document"):
        found.append(f"{cls.__name__}.layout is {cls.layout!r}; it is packed or document.")
    return found
