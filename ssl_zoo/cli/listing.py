"""`ssl-zoo list`: what there is and what pairs with what, read from the sources without importing torch."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import ssl_zoo
from ssl_zoo.compose.composition import config_folder, options
from ssl_zoo.compose.signatures import source, syntax


def headline(group: str, name: str) -> str:
    """The comment that a YAML file starts with, its first line; "" where there is none."""
    for line in (config_folder() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("# @package"):
            return line.removeprefix("#").strip() if line.startswith("#") else ""
    return ""


def target(group: str, name: str) -> str:
    """The full name of the class or function that a YAML file builds; "" where it does not say."""
    for line in (config_folder() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("_target_:"):
            return line.split(":", 1)[1].strip()
    return ""


def objective_facts() -> dict[str, dict[str, object]]:
    """Name of each class of objectives -> its `family` and `takes`, read from the syntax trees."""
    facts: dict[str, dict[str, object]] = {}
    for file in sorted((Path(ssl_zoo.__file__).parent / "objectives").glob("*.py")):
        for node in syntax(file).body:
            if isinstance(node, ast.ClassDef):
                found = {
                    statement.targets[0].id: ast.literal_eval(statement.value)
                    for statement in node.body
                    if isinstance(statement, ast.Assign)
                    and isinstance(statement.targets[0], ast.Name)
                    and statement.targets[0].id in ("family", "takes")
                }
                if "takes" in found:
                    facts[node.name] = found
    return facts


def kinds_made(maker: str) -> tuple[str, ...]:
    """Which kinds of backbone (`backbones._base.KINDS`) a class or a function by this full name can make.

    A class says so in `kind = ...` or `kind: Literal[...]`, a function by the classes that it returns.
    """
    module, _, name = maker.rpartition(".")
    file = source(module)
    tree = ast.Module([], []) if file is None else syntax(file)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in {one.asname or one.name for one in node.names}:
            return kinds_made(f"{node.module}.{name}")
        if isinstance(node, ast.FunctionDef) and node.name == name and node.returns is not None:
            made = [part.id for part in ast.walk(node.returns) if isinstance(part, ast.Name)]
            return tuple(kind for one in made for kind in kinds_made(f"{module}.{one}"))
        if isinstance(node, ast.ClassDef) and node.name == name:
            for one in node.body:
                says = one.value if isinstance(one, ast.Assign) else getattr(one, "annotation", None)
                names = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
                if says is not None and "kind" in {part.id for part in names if isinstance(part, ast.Name)}:
                    return tuple(str(part.value) for part in ast.walk(says) if isinstance(part, ast.Constant))
    return ()


def listing() -> str:
    """The whole page."""
    facts = objective_facts()
    backbones = {name: kinds_made(target("backbone", name)) for name in options("backbone")}
    families: dict[str, list[str]] = {}
    for name in options("objective"):
        about = facts.get(target("objective", name).split(".")[-1], {"family": "your own", "takes": ()})
        takes: tuple[str, ...] = tuple(about["takes"])  # pyright: ignore[reportArgumentType]
        if about["family"] == "composition":
            pairs = "what all its terms take"
        else:
            pairs = (
                " ".join(b for b, kinds in backbones.items() if set(kinds) & set(takes))
                or "any that it accepts"
            )
        families.setdefault(str(about["family"]), []).append(
            f"  {name:<22} {headline('objective', name)}\n  {'':<22} with {pairs}"
        )
    lines = ["OBJECTIVES"]
    for family in sorted(families):
        lines += [f" {family}", *families[family]]
    for group in (
        "backbone",
        "data",
        "tokenizer",
        "optimizer",
        "schedule",
        "guard",
        "trainer",
        "protocol",
        "experiment",
    ):
        lines += ["", group.upper(), *(f"  {name:<22} {headline(group, name)}" for name in options(group))]
    return "\n".join(lines)


def show(words: list[str]) -> None:
    """Print the page; with --help, what it holds."""
    if words and words[0] in ("-h", "--help"):
        print("ssl-zoo list: objectives, backbones, data and the other groups, and what pairs with what")
    elif words:
        sys.exit(f"ssl-zoo list: it takes no words, not {words[0]!r}")
    else:
        print(listing())
