"""A labelled set of short texts cut from Python's standard library: what part does this piece of code play?

An expression, shown without the statement around it, is the condition of an `if` or `while`, what a loop
runs over, or what is returned or raised; or the piece is a line of prose from a docstring. Labels
come from Python's own parser, so they are exact. Depends on the Python version, as `stdlib` does. Validation
and test come from files that `stdlib.modules`, the text to pretrain on, leaves out.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from functools import cache

from ssl_zoo.data import stdlib
from ssl_zoo.data.rows import DataError
from ssl_zoo.noise import fold

ROLES = ("condition", "loop", "prose", "raise", "return")
SHORTEST, LONGEST = 12, 100  # characters of a piece
MOST = {"train": 1000, "validation": 60, "test": 120}  # pieces of a role


def pieces(source: str) -> Iterator[tuple[str, str]]:
    """(text, role) of every piece of one module, white space joined to single blanks."""
    lines = source.encode().split(b"\n")  # the parser counts columns in bytes

    def cut(node: ast.expr) -> str:
        assert node.end_lineno is not None
        inner = lines[node.lineno - 1 : node.end_lineno]
        inner[-1] = inner[-1][: node.end_col_offset]
        inner[0] = inner[0][node.col_offset :]
        return b" ".join(inner).decode()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parser's, of invalid escapes in modules
        tree = ast.parse(source)
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.If(test=part) | ast.While(test=part):
                found.append((cut(part), "condition"))
            case ast.For(iter=part) | ast.comprehension(iter=part):
                found.append((cut(part), "loop"))
            case ast.Return(value=ast.expr() as part):
                found.append((cut(part), "return"))
            case ast.Raise(exc=ast.expr() as part):
                found.append((cut(part), "raise"))
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                found += ((line, "prose") for line in (ast.get_docstring(node) or "").splitlines())
    for text, role in found:
        yield " ".join(text.split()), role


@cache
def pools() -> dict[str, dict[str, list[str]]]:
    """split -> role -> pieces in an order that a hash gives; a text of two roles or splits is left out."""
    held_out = {file: split for split in ("validation", "test") for file in stdlib.assignment()[split]}
    role_of: dict[str, str] = {}
    split_of: dict[str, str] = {}
    double: set[str] = set()
    for file in stdlib.files():
        split = held_out.get(file, "train")
        for text, role in pieces(file.read_text("utf-8", "replace")):
            if not SHORTEST <= len(text) <= LONGEST:
                continue
            if role_of.setdefault(text, role) != role or split_of.setdefault(text, split) != split:
                double.add(text)
    found: dict[str, dict[str, list[str]]] = {s: {role: [] for role in ROLES} for s in MOST}
    for text in sorted(role_of.keys() - double, key=lambda text: fold("stdlib_roles", text)):
        found[split_of[text]][role_of[text]].append(text)
    return found


def roles(split: str) -> tuple[list[str], list[str]]:
    """(pieces, role of each) of "train", "validation" or "test", the same number of every role."""
    if split not in MOST:
        raise DataError(f"stdlib_roles has the splits {', '.join(MOST)}, not {split}")
    pool = pools()[split]
    count = min(MOST[split], *map(len, pool.values()))
    texts = [(text, role) for role, members in pool.items() for text in members[:count]]
    return [text for text, _ in texts], [role for _, role in texts]
