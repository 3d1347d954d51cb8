"""The objectives found in a folder, with tiny backbones of the kinds that they take: helpers for tests."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

import ssl_zoo
from ssl_zoo.backbones._base import KINDS, Backbone, Kind
from ssl_zoo.contract import tiny
from ssl_zoo.contract.tiny import CLASSES as CLASSES
from ssl_zoo.contract.tiny import SIDE as SIDE
from ssl_zoo.contract.tiny import TEXT_WIDTH as TEXT_WIDTH
from ssl_zoo.contract.tiny import VOCABULARY as VOCABULARY
from ssl_zoo.contract.tiny import backbone as backbone
from ssl_zoo.contract.tiny import batch as batch
from ssl_zoo.contract.tiny import images as images
from ssl_zoo.contract.tiny import part as part
from ssl_zoo.contract.tiny import text as text
from ssl_zoo.objectives._base import Objective

M = TypeVar("M", bound=nn.Module)
OBJECTIVES = Path(ssl_zoo.__file__).parent / "objectives"


def build(cls: type[Objective], on: Backbone, **arguments: Any) -> Objective:
    """The objective as its `tiny` says; a Sum has two terms that fit the backbone."""
    if "terms" in inspect.signature(cls).parameters:
        arguments = {"terms": pairing(on.kind), "weights": {"second": 0.5}} | arguments
    return tiny.build(cls, on, **arguments)


@functools.cache
def pairing(kind: Kind) -> dict[str, Callable[[Backbone], Objective]]:
    """Two terms of a Sum: the first two objectives of two families that read alike, or one twice."""
    fits = [cls for cls in discover() if kind in cls.takes and cls.reads == ("x",) and not composed(cls)]
    alike = [(a, b) for a, b in combinations(fits, 2) if a.layout == b.layout and a.family != b.family]
    first, second = [*alike, (fits[0], fits[0])][0]
    return {"first": functools.partial(build, first), "second": functools.partial(build, second)}


def plain(x: Tensor) -> Tensor:
    """A view that changes nothing: images (B, C, H, W) as doubles in [0, 1]."""
    return x.double() / 255


def stirred(module: M) -> M:
    """Weights far from their start, where projections are zero and tokens hardly see one another."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return module


def composed(cls: type[Objective]) -> bool:
    return "terms" in inspect.signature(cls).parameters


def discover(folder: Path = OBJECTIVES) -> list[type[Objective]]:
    """Every objective class that a file of the folder defines: no registry, the files are the list."""
    found: list[type[Objective]] = []
    for file in sorted(folder.glob("*.py")):
        if file.name == "__init__.py":
            continue
        if folder == OBJECTIVES:
            name = f"ssl_zoo.objectives.{file.stem}"
            module = importlib.import_module(name)
        else:
            name = f"objectives_of_{folder.name}_{file.stem}".replace("-", "_")
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        for value in vars(module).values():
            own = isinstance(value, type) and issubclass(value, Objective) and value.__module__ == name
            if own and not inspect.isabstract(value):
                found.append(value)
    return found


def pairs() -> list[tuple[type[Objective], Kind]]:
    """Every objective with every kind of backbone it takes."""
    return [(cls, kind) for cls in discover() for kind in cls.takes]


def cases() -> list[Any]:
    """`pairs` for a test, all but the last kind that an objective names for `make slow` alone."""
    return [
        pytest.param(cls, kind, marks=[] if kind == cls.takes[-1] else [pytest.mark.slow])
        for cls, kind in pairs()
    ]


def refusals() -> list[tuple[type[Objective], Kind]]:
    """Every objective with every kind of backbone it does not take."""
    return [(cls, kind) for cls in discover() for kind in KINDS if kind not in cls.takes]
