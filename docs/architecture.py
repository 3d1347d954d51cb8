"""Writes docs/architecture.md: the picture from the imports, the two ways from what runs.

    python docs/architecture.py [FILE]

The picture shows the rooms of the package (its folders, and its single files by what they build on) and who
imports whom, without the arrows that follow from others. The ways are the files of the package in which a
function is entered while a JPEG becomes a loss, and while a result becomes a page. tests/test_architecture.py
fails where the page is not what this script writes.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import ssl_zoo

PACKAGE = Path(ssl_zoo.__file__).parent
PAGE = Path(__file__).with_name("architecture.md")

# What a room is for, in the order of the page. A room that is missing here stops the script with a KeyError.
ROOMS = {
    "base": "what all stand on: noise, schedules, processes, tokens",
    "parts": "what builds on a backbone: heads, teachers, memory, files of weights",
    "backbones": "one file a family behind one interface",
    "views": "images to views, tokens to hide, crops of text",
    "objectives": "one file a paper",
    "optim": "optimizers for what objectives tune",
    "data": "sources to stores to rows to the plan of batches",
    "transfer": "what a backbone is worth: protocols and measures",
    "pretrain": "stage 1: the trainer, checkpoints, budgets",
    "trial": "whether pretraining is worth it on somebody's data: what is tried, what was done, the verdict",
    "export": "ways out: timm, transformers, sentence-transformers, ONNX, torch; cards and receipts",
    "leaderboard": "boards: running a line, checking, tables",
    "pages": "what people look at",
    "compose": "overrides to configurations to objects; the one place that knows Hydra",
    "contract": "what an objective promises, checked on any class",
    "front": "the functions of `ssl_zoo`, for scripts and notebooks",
    "cli": "verbs: parse, call, print",
}


# The picture


def imports(file: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("ssl_zoo.") and is_file(name)}


def is_file(name: str) -> bool:
    """Whether a full name is that of a module with a file of its own, and no folder."""
    return (PACKAGE.parent / name.replace(".", "/")).with_suffix(".py").is_file()


def module(file: Path) -> str:
    """The full name of the module in a file."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)


def tree() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports. `__init__.py`, a list of names, is left out."""
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"]
    return {module(file): imports(file) for file in files}


def room(name: str, known: dict[str, set[str]]) -> str:
    """The room of a module: its folder; of a single file its own room, or "parts" where it imports backbones,
    directly or not, or "base"."""
    parts = name.split(".")
    if len(parts) > 2:
        return parts[1]
    if parts[1] in ROOMS:
        return parts[1]
    below, ahead = set(), [name]
    while ahead:
        for one in known.get(ahead.pop(), ()):
            if one not in below:
                below.add(one)
                ahead.append(one)
    return "parts" if any(one.startswith("ssl_zoo.backbones.") for one in below) else "base"


def edges() -> dict[str, set[str]]:
    """Room -> rooms that it imports."""
    known = tree()
    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for name, used in known.items():
        at = room(name, known)
        found[at] |= {room(one, known) for one in used} - {at}
    return found


def reduced(found: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows without those that follow from others.

    Raises:
        ValueError: rooms import each other in a ring.
    """

    def beyond(start: str, path: tuple[str, ...] = ()) -> set[str]:
        if start in path:
            raise ValueError(f"these rooms import each other: {' -> '.join([*path, start])}")
        return {start}.union(*(beyond(one, (*path, start)) for one in found[start]))

    reach = {name: beyond(name) for name in found}
    return {
        name: {one for one in used if not any(one in reach[other] for other in used - {one})}
        for name, used in found.items()
    }


def picture() -> str:
    """The rooms as a Mermaid flowchart: an arrow points to what is imported."""
    known = tree()
    there = {room(one, known) for one in known}
    lines = ["flowchart TD"]
    lines += [f'    {one}["{one}"]' for one in reversed(ROOMS) if one in there]
    for name, used in reversed(reduced(edges()).items()):
        lines += [f"    {name} --> {one}" for one in ROOMS if one in used]
    return "\n".join(lines)


# The ways


def entered(work: Callable[[], Any]) -> list[str]:
    """The files of the package in which a function is entered while `work` runs, in that order.

    Functions that Numba compiled are not seen, but the file that calls them is.
    """
    found: dict[str, None] = {}
    root = f"{PACKAGE}{os.sep}"

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        inside = code.co_filename.startswith(root) and code.co_filename.endswith(".py")
        if event == "call" and inside and not code.co_name.startswith("<"):
            found.setdefault(code.co_filename.removeprefix(root).replace(os.sep, "/"))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return list(found)


def jpeg_to_loss(folder: Path) -> list[str]:
    """From a folder of JPEGs to the loss of SimCLR on a small ResNet, without the trainer around it."""
    import numpy as np
    from PIL import Image

    from ssl_zoo.backbones.vision import timm_backbone
    from ssl_zoo.data.images import ImageData
    from ssl_zoo.data.plan import Parts, Plan, loader
    from ssl_zoo.noise import free_noise, seed_noise
    from ssl_zoo.objectives.simclr import SimCLR

    noise = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir()
        for i in range(8):
            pixels = noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.jpg")
    objective = SimCLR(timm_backbone("resnet18", image_size=32, pretrained=False), width=8, out=4)

    def work() -> None:
        rows = ImageData("made-up", train=str(folder), image_size=32, validation_fraction=0.25).rows("train")
        parts = Parts(rows, Plan(len(rows), 8, 0), 1, 1, 0, True, False)
        for _, batch in loader(parts, lambda: 0, 1, 0, False):
            seed_noise(0, 0)
            objective(batch)
        free_noise()

    return entered(work)


def result_to_page(board: Path, out: Path) -> list[str]:
    """From the result of an evaluation to the page of its board."""
    from ssl_zoo.leaderboard import records
    from ssl_zoo.leaderboard.examiner import plain
    from ssl_zoo.leaderboard.standings import load
    from ssl_zoo.pages.site import write_site
    from ssl_zoo.transfer.report import Result

    def work() -> None:
        result = Result("knn", "accuracy", (0,), (0.5,), {}, ({},), None, 9, 9, 9, 1.0)
        measures = {"knn": {"overrides": [], "results": [plain(result)]}}
        record = {"line": "pixels", "seed": 0, "finished": "", "seconds": 1.0, "measures": measures}
        records.append(board / "results.jsonl", record)
        write_site([load(board)], out)

    return entered(work)


BOARD = {
    "title": "Made up",
    "about": "",
    "hardware": "",
    "primary": "knn",
    "fixed": {},
    "measures": {"knn": {"title": "nearest neighbours"}},
}
RECIPE = "# Pixels.\n# Paper: p\n# Cost: c\n# Expected: e\n# Command: c\nfloor: pixels\n"


def ways() -> dict[str, list[str]]:
    """Both ways: what each is from and to -> its files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SSL_ZOO_CACHE"] = str(folder / "cache")
        (folder / "jpegs").mkdir()
        (folder / "board/recipes").mkdir(parents=True)
        (folder / "board/board.yaml").write_text(json.dumps(BOARD))  # which is YAML too
        (folder / "board/recipes/pixels.yaml").write_text(RECIPE)
        return {
            "a JPEG to a loss": jpeg_to_loss(folder / "jpegs"),
            "a result to a page": result_to_page(folder / "board", folder / "site"),
        }


TEXT = """\
# Architecture

This page is written by `python docs/architecture.py` from the imports and from what runs; a test holds it to
them. An arrow points to what a room imports; arrows that follow from others are left out.

```mermaid
{picture}
```

| room | what it is for |
|---|---|
{rooms}

## Two ways through the house

Files in which a function is entered, in that order, without the command and the trainer around them.

{ways}"""


def page() -> str:
    """The whole page."""
    known = tree()
    there = {room(one, known) for one in known}
    rooms = "\n".join(f"| {name} | {what} |" for name, what in ROOMS.items() if name in there)
    told = [
        f"**From {name}**: {len(files)} files. " + " → ".join(f"`{one.removesuffix('.py')}`" for one in files)
        for name, files in ways().items()
    ]
    return TEXT.format(picture=picture(), rooms=rooms, ways="\n\n".join(told) + "\n")


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
