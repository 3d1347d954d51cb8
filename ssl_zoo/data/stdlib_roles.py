"""A labelled set of short texts cut from Python's standard library: what part does this piece of code play?

An expression is shown without the statement around it, and is one of: the condition of an `if` or `while`, what
a loop runs over, what is returned, assigned or raised; or the piece is prose from a comment or a docstring.
Code is read by its grammar, so the labels are exact. Depends on the Python version, as `stdlib` does; validation
and test come from the files that `stdlib.modules`, the pretraining text, leaves out.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator

SHORTEST, LONGEST = 12, 100  # characters of a piece
PER_CLASS = {"train": 1000, "validation": 60, "test": 120}  # at most


def pieces(source: str) -> Iterator[tuple[str, str]]:
    """(text, role) of every piece of one module, of any length, lines joined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # a module's own escapes
        tree = ast.parse(source)
    for node in ast.walk(tree):
        found: tuple[ast.expr | None, str] | None = None
        match node:
            case ast.If() | ast.While():
                found = node.test, "condition"
            case ast.For() | ast.comprehension():
                found = node.iter, "loop"
            case ast.Return():
                found = node.value, "return"
            case ast.Assign():
                found = node.value, "assignment"
            case ast.Raise():
                found = node.exc, "raise"
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                for line in (ast.get_docstring(node) or "").splitlines():
                    yield line, "docstring"
        if found and found[0] is not None:
            yield ast.get_source_segment(source, found[0]) or "", found[1]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("#!: "), "comment"
