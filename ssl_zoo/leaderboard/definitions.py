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
    """A name at the top of a module.

    The empty name stands for the statements that bind no name, such as a setting of another library: they
    take effect as soon as anything of the module is used. "*" stands for the whole module.
    """

    module: str
    name: str


class Source(NamedTuple):
    """What a file says, by the names at its top.

    Attributes:
        bound: name -> the statements that bind it; "" -> those that bind no name.
        imports: name -> the full name that it stands for.
        joined: name -> the definitions that are registered with it by a decorator such as `@name.register`.
    """

    bound: dict[str, list[ast.stmt]]
    imports: dict[str, str]
    joined: dict[str, set[str]]


@functools.cache
def located(module: str) -> Path | None:
    """The file of a module of this package or of the user's own code; None for any other.

    Installed libraries have None, because a record keeps their versions. Nothing is imported.
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
        _enter(found, statement, package_of(module))
    return found


def package_of(module: str) -> str:
    """The package that the relative imports of a module start from."""
    file = located(module)
    return module if file is not None and file.name == "__init__.py" else module.rpartition(".")[0]


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


def _enter(source: Source, statement: ast.stmt, package: str) -> None:
    """Put a statement of a module's top under the names that it binds."""
    source.imports.update(imported(statement, package))
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
    """The names that a statement binds at the top of its module, with those of the statements inside it where
    it is an `if`, a `try` or another block."""
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


def imported(node: ast.AST, package: str = "") -> dict[str, str]:
    """The names that the imports inside a node bind -> the full names that they stand for.

    package: what relative imports start from.
    """
    found: dict[str, str] = {}
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            for alias in one.names:
                first = alias.name.split(".")[0]  # `import a.b` binds a
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(one, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - one.level] if one.level else []
            home = ".".join([*above, *([one.module] if one.module else [])])
            found |= {alias.asname or alias.name: f"{home}.{alias.name}" for alias in one.names}
    return found


def resolve(full: str) -> Definition | str:
    """The definition that a full name leads to, through as many imports as there are; the name as far as it
    could be followed where that is no code of this package or of the user."""
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
        if module == "ssl_zoo":  # its names of objectives are found by looking through their files
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
    """The names in a definition -> where they lead. A local name that is also a definition's counts as it."""
    source = read(one.module)
    if one.name == "*":  # a module handed on as a whole
        return {name: Definition(one.module, name) for name in source.bound}
    found: dict[str, Definition | str] = {
        name: Definition(one.module, name) for name in source.joined.get(one.name, ())
    }
    for statement in source.bound.get(one.name, ()):
        imports = source.imports | imported(statement, package_of(one.module))
        for name in _dotted(statement):
            root, _, rest = name.partition(".")
            if root in imports:
                found[name] = resolve(f"{imports[root]}.{rest}" if rest else imports[root])
            if root in source.bound:  # a name that a `try` imports may be bound there as well
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
    """The definitions behind full names of classes and functions, and all that these use, directly or not.

    Raises:
        ImportError: a name starts with a module that does not exist.
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
    """A hash of what definitions say: 16 hexadecimal digits. The files that they stand in do not matter.

    What the names in them stand for counts as well: a name of one of the definitions by the text of that one,
    any other by itself.
    """
    chosen = frozenset(definitions)
    made = hashlib.blake2b(digest_size=8)
    for text in sorted(_told(one, chosen) for one in chosen):
        made.update(f"{text}\n".encode())
    return made.hexdigest()


def _told(one: Definition, chosen: frozenset[Definition]) -> str:
    """The text of a definition, and a line for each name in it with what that stands for."""
    lines = [f"{one.name}:", own(one)]
    for name, use in sorted(uses(one).items()):
        if isinstance(use, Definition):
            use = hashlib.blake2b(own(use).encode(), digest_size=8).hexdigest() if use in chosen else use.name
        lines.append(f"{name} = {use}")
    return "\n".join(lines)


def forget() -> None:
    """Forget the files that were read, so that they are read again."""
    for remembered in (located, read, own, uses):
        remembered.cache_clear()
