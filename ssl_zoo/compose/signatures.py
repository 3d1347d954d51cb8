"""What the parts that a configuration builds take, read from their sources: nothing is imported."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple


class Signature(NamedTuple):
    """What a class or function takes.

    Attributes:
        names: of all arguments.
        needed: those without a default.
        open: whether there is a **KWARGS.
        about: name -> what the docstring says of it.
        types: name -> its annotation, as it is written.
    """

    names: tuple[str, ...]
    needed: tuple[str, ...]
    open: bool
    about: dict[str, str]
    types: dict[str, str]


@functools.cache
def signature(target: str) -> Signature | None:
    """What the class or function with this full name takes; None where its source does not say."""
    module, _, name = target.rpartition(".")
    file = source(module)
    if file is None:
        return None
    tree = syntax(file)
    node = next((n for n in tree.body if getattr(n, "name", None) == name), None)
    if isinstance(node, ast.FunctionDef):
        return of_function(node, ast.get_docstring(node), method=False)
    if isinstance(node, ast.ClassDef):
        text = ast.get_docstring(node)
        if made := next(
            (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
        ):
            return of_function(made, text, method=True)
        if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            fields = [
                n
                for n in node.body
                if isinstance(n, ast.AnnAssign) and "ClassVar" not in ast.unparse(n.annotation)
            ]
            names = tuple(ast.unparse(n.target) for n in fields)
            needed = tuple(ast.unparse(n.target) for n in fields if n.value is None)
            types = {ast.unparse(n.target): ast.unparse(n.annotation) for n in fields}
            return Signature(names, needed, False, explained(text), types)
        if len(node.bases) == 1 and isinstance(node.bases[0], ast.Name):
            return signature(f"{module}.{node.bases[0].id}")
        return None
    for statement in tree.body:  # a name that another module defines
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return signature(f"{statement.module}.{alias.name}")
    return None


def of_function(node: ast.FunctionDef, text: str | None, method: bool) -> Signature:
    """What a function takes, without `self` if it is a method.

    Args:
        text: the docstring that explains the arguments; None or "" = the function's own.
    """
    given = node.args
    places = [a.arg for a in (*given.posonlyargs, *given.args)][1 if method else 0 :]
    without = len(given.posonlyargs) + len(given.args) - len(given.defaults) - (1 if method else 0)
    needed = [
        *places[:without],
        *(a.arg for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is None),
    ]
    names = (*places, *(a.arg for a in given.kwonlyargs))
    arguments = (*given.posonlyargs, *given.args, *given.kwonlyargs)
    types = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation is not None}
    about = explained(text or ast.get_docstring(node))
    return Signature(names, tuple(needed), given.kwarg is not None, about, types)


def explained(text: str | None) -> dict[str, str]:
    """Name -> meaning, of the Args or Attributes of a docstring."""
    section = re.search(
        r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(text or ""), re.MULTILINE
    )
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(section[1]).splitlines() if section else ():
        start = re.match(r"([\w*]+(?:, [\w*]+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
        for name in names:
            found[name] = (
                f"{found[name]} {line.strip()}" if not start and name in found else start[2] if start else ""
            )
    return found


@functools.cache
def syntax(file: Path) -> ast.Module:
    """The syntax tree of a file, read once."""
    return ast.parse(file.read_text(encoding="utf-8"))


def source(module: str) -> Path | None:
    """The .py file of a module, found without importing the packages that it lies in; None without one."""
    places = ["", *sys.path]
    parts = module.split(".")
    for i, part in enumerate(parts):
        found = PathFinder.find_spec(part, places) if part else None
        if found is None:
            return None
        if i == len(parts) - 1:
            return Path(found.origin) if found.origin and found.origin.endswith(".py") else None
        places = list(found.submodule_search_locations or [])
    return None
