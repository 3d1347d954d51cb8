"""Every way out by its name, and the one function that takes it: written beside, opened, compared, moved.

A door that is not opened is not shipped: the peer's own loader reads the folder before it gets its place.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ssl_zoo import hub
from ssl_zoo.export import rows
from ssl_zoo.export._base import Door, ExportError, Source, write_json

MARK = "export.json"  # in each folder: which door wrote it


class Way(NamedTuple):
    """Where a door is, and what has to be installed to open it.

    Attributes:
        place: module and class.
        packages: by the name that is imported.
        extra: the extra of this library that installs them.
        heads: whether classifiers go out so, too.
    """

    place: tuple[str, str]
    packages: tuple[str, ...] = ()
    extra: str = ""
    heads: bool = False


WAYS = {
    "timm": Way(("timm", "TimmDoor")),
    "transformers": Way(("transformers", "TransformersDoor"), ("transformers",), "hf"),
    "sentence-transformers": Way(
        ("sentence_transformers", "SentenceTransformersDoor"),
        ("transformers", "sentence_transformers"),
        "hf",
    ),
    "onnx": Way(("onnx", "OnnxDoor"), ("onnx", "onnxscript", "onnxruntime"), "onnx", heads=True),
    "torch": Way(("torch", "TorchDoor"), heads=True),
}


class Exported(NamedTuple):
    """What was written.

    Attributes:
        folder: where.
        bytes: of all its files.
        difference: the largest that was found, in units of the largest feature or of 1.
        rows: how many rows were compared.
        lines: Python that opens the folder.
        seconds: what all of it took.
    """

    folder: Path
    bytes: int
    difference: float
    rows: int
    lines: str
    seconds: float


def door(name: str, head: bool = False) -> Door:
    """The door of this name.

    head: whether a classifier is to go out.

    Raises:
        ExportError: there is none, or none for classifiers, or its packages are not installed; with the
            command that installs them.
    """
    if name not in WAYS:
        raise ExportError(f"to={name} is no way out; take {', '.join(WAYS)}")
    way = WAYS[name]
    if head and not way.heads:
        others = " or ".join(f"to={one}" for one, way in WAYS.items() if way.heads)
        raise ExportError(f"to={name} takes backbones alone; a classifier goes out by {others}")
    if missing := [one for one in way.packages if find_spec(one) is None]:
        told = " and ".join(missing)
        raise ExportError(f"to={name} needs {told}: pip install 'ssl-zoo[{way.extra}]'")
    module, made = way.place
    return getattr(import_module(f"ssl_zoo.export.{module}"), made)()


def refuse_taken(folder: Path) -> None:
    """Raise ExportError if the folder is there and is no earlier export."""
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(
            f"out={folder} is there, and no earlier export, which would be replaced: name another"
        )


def export(
    source: Source, name: str, folder: Path, card: Callable[[Door, Path], str] | None = None
) -> Exported:
    """Write a backbone into a folder, in the place of an earlier export.

    Args:
        name: of the door.
        card: gives the text of README.md for the door and the folder; None: there is none.

    Raises:
        ExportError: the backbone cannot be said so, or the peer reads other features in what was written.
            The folder is then as it was before.
    """
    began = time.perf_counter()
    way = door(name, source.head is not None)
    refuse_taken(folder)
    found = [math.nan]

    def write(part: Path) -> None:
        way.write(source, part)
        found[0] = rows.difference(source, way.open(source, part))
        if not found[0] <= way.tolerance:  # NaN is not, either
            raise ExportError(
                f"{name} reads other features in what was written than ssl_zoo does: they differ by "
                f"{found[0]:.2g}, and {way.tolerance:g} is taken. Nothing is left of it; take another to="
            )
        write_json({"to": name, "receipt": source.receipt, "difference": found[0]}, part / MARK)
        if card is not None:
            (part / "README.md").write_text(card(way, folder), encoding="utf-8")

    try:
        hub.replace(folder, write)
    except BaseException:
        discard(folder)
        raise
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    count = 4 if source.backbone.modality == "image" else len(rows.TEXTS)
    lines, seconds = way.lines(source, folder), time.perf_counter() - began
    return Exported(folder, size, found[0], count, lines, seconds)


def discard(folder: Path) -> None:
    """Remove what this process began to write beside a folder."""
    for path in folder.parent.glob(f".{folder.name}.{os.getpid()}.part"):
        shutil.rmtree(path, ignore_errors=True)
