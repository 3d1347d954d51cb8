"""The objectives there are, read from their sources and YAML files without importing torch.

What a page says of an objective stands in one place each: the paper and the equation in the docstring of its
file, its arguments in that of its class, its defaults and when to take it in its YAML files.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import ssl_zoo
from ssl_zoo.compose.composition import config_folder
from ssl_zoo.compose.places import options
from ssl_zoo.compose.signatures import source, syntax

OBJECTIVES = Path(ssl_zoo.__file__).parent / "objectives"
YOUR_OWN = "your own"  # the family of what builds a class of the user's
ENDS = re.compile(r"(?<!\bal)\. (?=[A-Z0-9])")  # of sentences, which "et al. 2022" is not
NOTES = ("When", "Watch")  # what the first lines of an objective's YAML may begin with


@dataclass(frozen=True)
class Choice:
    """A file configs/GROUP/NAME.yaml.

    Attributes:
        headline: what its first comment begins with, in whole sentences.
        notes: what further lines of it say under the words of `NOTES`, whole.
        target: full name of what it builds; "" where it does not say.
    """

    name: str
    headline: str
    notes: dict[str, str]
    target: str


@dataclass(frozen=True)
class Card:
    """An objective: a class with the choices of `objective=` that build it, the paper's first.

    Attributes:
        name: of the first choice. family, takes: of the class (see `Objective`).
        about: docstring of its file, "" for a class of the user's.
        file: its source. lines: how many it has.
    """

    name: str
    cls: str
    family: str
    takes: tuple[str, ...]
    choices: tuple[Choice, ...]
    about: str
    file: Path | None

    @property
    def lines(self) -> int:
        return 0 if self.file is None else len(self.file.read_text(encoding="utf-8").splitlines())


def choice(group: str, name: str) -> Choice:
    """What the comment at the top of a YAML file says, and what the file builds."""
    lines = (config_folder() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    head = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    targets = (line.split(":", 1)[1].split("#")[0].strip() for line in lines if line.startswith("_target_:"))
    notes: dict[str, str] = {}
    word = ""
    for line in head[1:]:
        if found := re.match(rf"({'|'.join(NOTES)}): (.*)", line):
            word, line = found[1], found[2]
        if word:
            notes[word] = f"{notes.get(word, '')} {line}".strip()
    return Choice(name, headline(head), notes, next(targets, ""))


def described(word: str) -> list[str]:
    """The objectives whose headline has a word in it, however that is hyphenated, the earliest first."""
    bare = letters(word)
    some = options("objective") if len(bare) > 3 else []
    said = {name: letters(choice("objective", name).headline) for name in some}
    return sorted((name for name in said if bare in said[name]), key=lambda name: said[name].index(bare))


def letters(text: str) -> str:
    """The letters and digits of a text, in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def headline(head: Sequence[str]) -> str:
    """The first line of a comment in whole sentences: without one that it only begins, or with the rest of
    its only one."""
    text = head[0] if head else ""
    if not text or text.endswith(".") or not head[1:] or head[1].startswith(NOTES):
        return text
    if ends := [found.start() + 1 for found in ENDS.finditer(text)]:
        return text[: ends[-1]]
    text = " ".join(takewhile(lambda line: not line.startswith(NOTES), head))
    found = ENDS.search(text)
    return text if found is None else text[: found.start() + 1]


def facts() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Full name of each class of objectives -> its file, and its `family` and `takes`."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for file in sorted(OBJECTIVES.glob("*.py")):
        for node in syntax(file).body:
            if isinstance(node, ast.ClassDef):
                said = class_facts(node, ("family", "takes"))
                if "takes" in said:
                    found[f"ssl_zoo.objectives.{file.stem}.{node.name}"] = (file, said)
    return found


def class_facts(node: ast.ClassDef, names: Sequence[str]) -> dict[str, Any]:
    """What the body of a class assigns to some names, each by itself or several in one line."""
    said = {}
    for statement in node.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        pairs = [(target, statement.value)]
        if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            pairs = list(zip(target.elts, statement.value.elts, strict=False))  # what is starred is no fact
        for one, value in pairs:
            if isinstance(one, ast.Name) and one.id in names:
                said[one.id] = ast.literal_eval(value)
    return said


def terms_of(name: str) -> list[str]:
    """The choices of `objective=` that the YAML file of a sum adds up."""
    text = (config_folder() / "objective" / f"{name}.yaml").read_text(encoding="utf-8")
    return re.findall(r"^ *- (\w+)@terms\.", text, re.MULTILINE)


def cards() -> list[Card]:
    """All objectives, by family and name. A sum takes what all its terms take."""
    known, by_target = facts(), {}
    for name in options("objective"):
        one = choice("objective", name)
        # Sums have one class, and nothing else in common.
        by_target.setdefault((one.target, name if one.target.endswith(".Sum") else ""), []).append(one)
    found = []
    for (target, _), choices in by_target.items():
        # The paper's own file is called after the module; variants have longer names.
        choices = sorted(choices, key=lambda one: (one.name != target.split(".")[-2:][0], one.name))
        file, said = known.get(target, (None, {"family": YOUR_OWN, "takes": ()}))
        if target.endswith(".Sum"):
            terms = [
                known[choice("objective", term).target][1]["takes"] for term in terms_of(choices[0].name)
            ]
            said = said | {
                "takes": tuple(kind for kind in said["takes"] if all(kind in one for one in terms))
            }
        about = "" if file is None else ast.get_docstring(syntax(file)) or ""
        found.append(
            Card(
                choices[0].name,
                target.rpartition(".")[2],
                str(said["family"]),
                tuple(said["takes"]),
                tuple(choices),
                about,
                file,
            )
        )
    return sorted(found, key=lambda card: (card.family, card.name))


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


def backbones_for(card: Card) -> list[str]:
    """The choices of `backbone=` that an objective trains; [] where only building it tells."""
    made = {name: kinds_made(choice("backbone", name).target) for name in options("backbone")}
    return [name for name, kinds in made.items() if set(kinds) & set(card.takes)]


def recipes(card: Card) -> list[str]:
    """The choices of `experiment=` that are called after an objective, and choose it or a variant of it."""
    names = {one.name for one in card.choices}
    called = [name for name in options("experiment") if name.endswith(f"_{card.name}")]
    return [name for name in called if chosen_by(name) in names]


def chosen_by(experiment: str) -> str:
    """The choice of `objective=` that a recipe makes; "" where it makes none."""
    text = (config_folder() / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    found = re.search(r"^ *- override /objective: *(\w+)", text, re.MULTILINE)
    return found[1] if found else ""
