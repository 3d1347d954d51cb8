"""A verb asked from code: its words settled, composed and checked as the command does it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ssl_zoo.compose import composition, data_names, gate
from ssl_zoo.compose.composition import Composed
from ssl_zoo.compose.objects import NONE


@contextlib.contextmanager
def composed(verb: str, words: list[str], parts: Any = NONE) -> Iterator[Composed]:
    """The checked configuration of a verb; within, what its words name may be built.

    Args:
        parts: `Objects` that are handed over in the place of groups.

    Raises:
        ConfigError: a word that is not there or cannot be.
    """
    described = parts.described()
    settled = composition.settle(verb, words, objects=described)
    made = composition.compose(verb, settled, given=described)
    with gate.naming(gate.named(words)):
        gate.refuse_unknown_targets(made.cfg, [one["_target_"] for one in described.values()])
        if made.cfg.get("data") is not None:
            own = "data" in described
            made.choices["data"] = "own" if own else data_names.own_name(made.cfg.data, made.choices["data"])
        yield made
