"""Which of many tests that are alike run each time."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def some_of(every: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """The values of a parametrized test: all but the kept ones are for `make slow` alone."""
    return [one if one in kept else pytest.param(one, marks=pytest.mark.slow) for one in every]
