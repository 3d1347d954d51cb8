"""Names of classes, tags and labels: gathered from train, and read back from a saved model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ssl_zoo.data.items import Item
from ssl_zoo.data.rows import DataError
from ssl_zoo.untrusted import Untrusted

MOST = 1 << 16


def numbered(names: Iterable[str], where: Item, number: Mapping[str, int], what: str) -> list[int]:
    """The numbers of these names.

    Raises:
        DataError: one that no train row has; says in which file and row it stands.
    """
    given = list(names)
    if unknown := [name for name in given if name not in number]:
        known = ", ".join(list(number)[:10]) + (", ..." if len(number) > 10 else "")
        raise DataError(
            f"{where.where} has the {what} {unknown[0]!r}, which no train row has ({known}): leave such rows "
            "out, or give train rows of them"
        )
    return [number[name] for name in given]


def read_names(facts: Mapping[str, Any], key: str = "classes") -> tuple[str, ...]:
    """The names that a saved model has. Raises Untrusted where they are no list of different texts."""
    names = facts.get(key)
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= MOST
        or not all(isinstance(n, str) for n in names)
    ):
        raise Untrusted(f"model.json has no list of names under {key!r}")
    if len(set(names)) < len(names):
        raise Untrusted(f"model.json has a name twice under {key!r}")
    return tuple(names)


def read_number(facts: Mapping[str, Any], key: str) -> float:
    """A number that a saved model has. Raises Untrusted where there is none."""
    value = facts.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Untrusted(f"model.json has no number {key!r}")
    return float(value)
