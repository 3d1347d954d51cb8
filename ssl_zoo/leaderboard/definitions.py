"""Code as definitions: what a class or function is made of, found by following names, not files.

A definition is what a file binds to a name at its top: a function, a class with its methods, a constant. The
names in it lead to others, in the same file or through imports. Nothing is imported for that: syntax trees
are read, without docstrings, comments and annotations, which nothing is computed from.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

import ssl_zoo

PACKAGE = Path(ssl_zoo.__file__).parent
INSTALLED = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")})


class Definition(NamedTuple):
    """A name at the top of a module. The empty name stands for the statements that bind none, such as a
    setting of another library: they work as soon as anything of the module is used."""

    module: str
    name: str


class Source(NamedTuple):
    """A file by its names. bound: name -> statements that bind it; the empty name: those that bind none.
    imports: name -> the full name that it stands for. joined: name -> definitions that are registered with it
    by a decorator such as `@name.register`."""

    bound: dict[str, list[ast.stmt]]
    imports: dict[str, str]
    joined: dict[str, set[str]]


@functools.cache
def located(module: str) -> Path | None:
    """The file of a module of this package or of the user's own code; None for any other.

    Installed libraries are None: versions tell of them. Nothing is imported.
    """
    first, *rest = module.split(".")
    if first == "ssl_zoo":
        path = PACKAGE.joinpath(*rest)
        found = [path.with_suffix(".py"), path / "__init__.py"] if rest else [path / "__init__.py"]
        return next((file for file in found if file.is_file()), None)
    spec = PathFinder.find_spec(first, [os.getcwd()]) or PathFinder.find_spec(first)
    for part in rest:  # importlib.util.find_spec would import the packages around it
        places = spec and spec.submodule_search_locations
        spec = PathFinder.find_spec(part, places) if places else None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return None if spec.origin.startswith(INSTALLED) else Path(spec.origin)


@functools.cache
def read(module: str) -> Source:
    """The file of a module, which `located` finds."""
    file = located(module)
    assert file is not None
    found = Source({}, {}, {})
    for statement in Bare().visit(ast.parse(file.read_text(encoding="utf-8"))).body:
        _enter(found, statement)
    return found


class Bare(ast.NodeTransformer):
    """Takes out docstrings, the annotations of arguments and results, and methods called `show`, which pages
    draw and no figure comes from; the annotations of fields become text."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ClassDef):
            node.body = [one for one in node.body if getattr(one, "name", "") != "show"] or [ast.Pass()]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(ast.unparse(node.annotation))
        return super().generic_visit(node)


def _enter(source: Source, statement: ast.stmt) -> None:
    """Put a statement of a module's top under the names that it binds."""
    source.imports.update(imported(statement))
    if isinstance(statement, (ast.Import, ast.ImportFrom)) or _for_types(statement):
        return
    for name in set(_names_bound(statement)) or {""}:
        source.bound.setdefault(name, []).append(statement)
    for decorator in getattr(statement, "decorator_list", ()):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute):
            root = ast.unparse(called).split(".")[0]
            source.joined.setdefault(root, set()).update(_names_bound(statement))


def _for_types(statement: ast.stmt) -> bool:
    """Whether it is `if TYPE_CHECKING`: its imports say where the names of a lazy package lead."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


def _names_bound(statement: ast.AST) -> Iterator[str]:
    """Names that a statement binds at the top of its module; of `if`, `try` and others, all inside."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            inner = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
            yield from (one.id for one in inner if isinstance(one, ast.Name))
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        yield from imported(statement)
    else:
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, (ast.stmt, ast.ExceptHandler)):
                yield from _names_bound(child)


def imported(node: ast.AST) -> dict[str, str]:
    """Names that imports inside a node bind -> the full names that they stand for."""
    found: dict[str, str] = {}
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            for alias in one.names:
                first = alias.name.split(".")[0]  # `import a.b` binds a
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(one, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{one.module}.{alias.name}" for alias in one.names}
    return found


def resolve(full: str) -> Definition | str:
    """Where a full name leads: to a definition, through as many imports as there are; else a text of it."""
    parts = full.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if located(module) is None:
            continue
        if length == len(parts):
            return Definition(module, "*")
        name, source = parts[length], read(module)
        if name in source.bound:
            return Definition(module, name)
        if name in source.imports:
            return resolve(".".join([source.imports[name], *parts[length + 1 :]]))
        if module == "ssl_zoo":  # which finds objectives by their files
            files = sorted((PACKAGE / "objectives").glob("[!_]*.py"))
            homes = [f"ssl_zoo.objectives.{file.stem}" for file in files]
            return next((Definition(home, name) for home in homes if name in read(home).bound), full)
        break
    return full


@functools.cache
def own(one: Definition) -> str:
    """The statements of a definition as text."""
    return "\n".join(ast.dump(statement) for statement in read(one.module).bound.get(one.name, ()))


@functools.cache
def uses(one: Definition) -> dict[str, Definition | str]:
    """The names in a definition -> where they lead. Locals of the same name as a definition count as it."""
    source = read(one.module)
    if one.name == "*":  # a module handed on as a whole
        return {name: Definition(one.module, name) for name in source.bound}
    found: dict[str, Definition | str] = {
        name: Definition(one.module, name) for name in source.joined.get(one.name, ())
    }
    for statement in source.bound.get(one.name, ()):
        imports = source.imports | imported(statement)
        for name in _dotted(statement):
            root, _, rest = name.partition(".")
            if root in imports:
                found[name] = resolve(f"{imports[root]}.{rest}" if rest else imports[root])
            if root in source.bound:  # in both, where it is imported in a `try`
                found[f"own {root}"] = Definition(one.module, root)
    return found


def _dotted(node: ast.AST) -> Iterator[str]:
    """Every name that is read inside a node, with the attributes that follow it: "np", "distributed.rand"."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Attribute):
            inner: ast.expr = child
            while isinstance(inner, ast.Attribute):
                inner = inner.value
            if isinstance(inner, ast.Name):
                yield ast.unparse(child)
                continue
        elif isinstance(child, ast.Name):
            yield child.id
        yield from _dotted(child)


def reached(targets: Iterable[str]) -> set[Definition]:
    """Definitions behind full names of classes and functions, with those that they use, directly or not.

    Raises:
        ImportError: there is no such module.
    """
    ahead: list[Definition] = []
    for target in targets:
        one = resolve(target)
        if isinstance(one, Definition):
            ahead.append(one)
        elif importlib.util.find_spec(target.split(".")[0]) is None:
            raise ImportError(f"there is no module {target.rpartition('.')[0] or target} to hash the code of")
    found: set[Definition] = set()
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead += [Definition(one.module, "")] if "" in read(one.module).bound else []
            ahead += [use for use in uses(one).values() if isinstance(use, Definition)]
    return found


def digest(definitions: Iterable[Definition]) -> str:
    """Of what definitions say: 16 hexadecimal digits. In which file they stand does not matter.

    What a name in them stands for counts as well: by its text where it is one of them, else by its own name.
    """
    chosen = frozenset(definitions)
    made = hashlib.blake2b(digest_size=8)
    for text in sorted(_told(one, chosen) for one in chosen):
        made.update(f"{text}\n".encode())
    return made.hexdigest()


def _told(one: Definition, chosen: frozenset[Definition]) -> str:
    lines = [f"{one.name}:", own(one)]
    for name, use in sorted(uses(one).items()):
        if isinstance(use, Definition):
            use = hashlib.blake2b(own(use).encode(), digest_size=8).hexdigest() if use in chosen else use.name
        lines.append(f"{name} = {use}")
    return "\n".join(lines)


def forget() -> None:
    """Read files again."""
    for remembered in (located, read, own, uses):
        remembered.cache_clear()
