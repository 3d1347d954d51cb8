"""A hash of the code that a figure comes from: it changes when the code does, not when a comment does.

From the file of a class, imports within the package are followed. What counts of a file is its syntax tree
without docstrings.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

import ssl_zoo

PACKAGE = Path(ssl_zoo.__file__).parent

# What makes batches, noise and updates of pretraining.
TRAINING = ("optim", "schedules", "noise", "distributed", "data.plan", "pretrain.module", "pretrain.budget")
# What an objective is made of besides its views: files in these places, reached from its own.
OBJECTIVE = ("objectives", "heads", "teacher", "memory", "tokens", "schedules", "noise", "distributed")


def source(module: str) -> Path:
    """The file of a module, which is not imported; one of the user's own may lie in the working folder.

    Raises:
        ImportError: there is none.
    """
    if module.startswith("ssl_zoo."):
        return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    first, *rest = module.split(".")
    spec = PathFinder.find_spec(first, [os.getcwd()]) or importlib.util.find_spec(first)
    for part in rest:  # importlib.util.find_spec would import the packages around it
        spec = spec and PathFinder.find_spec(part, spec.submodule_search_locations or [])
    if spec is None or spec.origin is None:
        raise ImportError(f"there is no module {module} to hash the code of")
    return Path(spec.origin)


@functools.cache
def tree(file: Path) -> ast.Module:
    """The syntax tree without docstrings."""
    parsed = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(parsed):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return parsed


def freeze() -> None:
    """Read all code of the package now: a process that works for hours hashes what it was started with."""
    for file in PACKAGE.rglob("*.py"):
        tree(file)


@functools.cache
def dumped(file: Path) -> str:
    """The syntax tree as text."""
    return ast.dump(tree(file))


@functools.cache
def imported(file: Path) -> frozenset[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.startswith("ssl_zoo.") and source(name).is_file())


def reached(modules: Iterable[str]) -> set[str]:
    """The modules, and those of the package that they import, directly or not."""
    found: set[str] = set()
    ahead = list(modules)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += imported(source(name))
    return found


def within(modules: Iterable[str], places: Sequence[str]) -> set[str]:
    """Those in the given parts of the package, and those outside the package."""
    inside = tuple(f"ssl_zoo.{place}." for place in places)
    return {name for name in modules if f"{name}.".startswith(inside) or not name.startswith("ssl_zoo.")}


def digest(modules: Iterable[str]) -> str:
    """Of the code of modules: 12 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=6)
    for name in sorted(modules):
        made.update(f"{name}\n{dumped(source(name))}\n".encode())
    return made.hexdigest()


def home(target: str) -> str:
    """The module of a class or function, from its full name."""
    return target.rsplit(".", 1)[0]


def pretraining(objective: Iterable[str], backbone: Iterable[str]) -> dict[str, str]:
    """Hashes behind a pretrained backbone, by part, from the `_target_`s of its configuration.

    Args:
        objective: full names of classes and functions; () for random weights.
        backbone: the same, of the backbone.
    """
    found = {"backbone": digest(within(reached(map(home, backbone)), ("backbones",)))}
    objective = set(map(home, objective))
    if objective:
        everything = reached(objective)
        found["objective"] = digest(within(everything, OBJECTIVE))
        found["views"] = digest(within(everything, ("views",)))
        found["training"] = digest(f"ssl_zoo.{name}" for name in TRAINING)
    return found


def transfer(protocol: Iterable[str]) -> str:
    """Hash behind a measure, from the `_target_`s of its configuration."""
    everything = reached({*map(home, protocol), "ssl_zoo.transfer.evaluate", "ssl_zoo.transfer.measures"})
    return digest(within(everything, ("transfer", "views")) - {"ssl_zoo.transfer.report"})
