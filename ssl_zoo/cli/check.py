"""`ssl-zoo check`: whether an objective of your own keeps the contract that training relies on."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from traceback import print_exception
from types import ModuleType
from typing import Any

from ssl_zoo.cli.start import begin

HELP = """\
ssl-zoo check: try an objective of your own on tiny backbones, in one process and in two

  ssl-zoo check mine.AlignUniform      the class in mine.py of the folder you are in
  ssl-zoo check losses/mine.py         every objective that the file defines

A sentence says what is wrong, and the exit code is 1. From Python: ssl_zoo.check_objective(AlignUniform)
"""


def main(args: list[str]) -> None:
    """Entry point."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    if len(args) > 1:
        sys.exit(f"ssl-zoo check: one class or one file at a time, not {' '.join(args)!r}")
    begin("check", args)
    sys.path.insert(0, os.getcwd())
    try:
        classes = named(args[0])
    except Exception as error:  # of the user's own code, when it is imported
        print_exception(error)
        sys.exit(f"ssl-zoo check: {args[0]} cannot be imported, for the reason above")
    from ssl_zoo.contract.check import check_objective

    wrong = 0
    for cls in classes:
        print(f"{cls.__name__}: on {', '.join(cls.takes) or 'nothing'}", flush=True)
        found = check_objective(cls)
        print("\n".join(f"  - {sentence}" for sentence in found) or "  keeps the contract")
        wrong += len(found)
    if wrong:
        sys.exit(1)


def named(word: str) -> list[Any]:
    """The objectives of a file, or the one of a dotted name; exits with what is there if there is none."""
    if word.endswith(".py") or os.sep in word:
        if not Path(word).is_file():
            sys.exit(f"ssl-zoo check: there is no file {word}")
        module = opened(Path(word))
        if not (found := objectives(module)):
            sys.exit(f"ssl-zoo check: {word} defines no subclass of ssl_zoo.Objective")
        return found
    home, _, name = word.rpartition(".")
    home = home or word
    try:
        if not all(word.split(".")):
            raise ModuleNotFoundError(name=home)
        module = importlib.import_module(home)
    except ModuleNotFoundError as error:
        if not f"{home}.".startswith(f"{error.name}."):
            raise  # of the user's own code
        sys.exit(
            f"ssl-zoo check: there is no module {home!r} in {os.getcwd()}; write FILE.CLASS, as in "
            "mine.AlignUniform, or the path of a file"
        )
    defined = {cls.__name__: cls for cls in objectives(module)}
    if name not in defined:
        near = get_close_matches(name, defined, 1) or [*defined][:3]
        instead = f", but {', '.join(near)}" if near else ""
        sys.exit(f"ssl-zoo check: {home} defines no objective {name!r}{instead}")
    return [defined[name]]


def opened(file: Path) -> ModuleType:
    """The module of a file, which may import the files beside it."""
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def objectives(module: ModuleType) -> list[Any]:
    """The subclasses of Objective that a module defines itself."""
    from ssl_zoo.objectives._base import Objective

    found = (value for value in vars(module).values() if isinstance(value, type))
    return [cls for cls in found if issubclass(cls, Objective) and cls.__module__ == module.__name__]
