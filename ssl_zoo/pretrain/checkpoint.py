"""Checkpoints that are whole or absent, and how to find the newest whole one.

A file is written beside its place, flushed to the disk, and renamed over it; a sidecar with its size
and SHA-256 is in place first. A crash at any moment leaves the older checkpoints untouched. Weights that are
divided over processes make a folder (see `checkpoint_shards`), whose manifest takes the place of the sidecar.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ssl_zoo.hub import digest

# What a checkpoint of training holds, at least; weights alone do not say how to go on.
MANIFEST = "manifest.json"  # in the folder of a checkpoint of parts
PARTS = ("global_step", "loops", "optimizer_states", "seconds", "state_dict")


class CheckpointError(RuntimeError):
    """No checkpoint could be written or read; says which and why."""


def sidecar(path: Path) -> Path:
    """The file that holds size and SHA-256 of a checkpoint, beside it."""
    return path.with_suffix(".json")


def read_checkpoint(path: Path | str, map_location: Any = None) -> dict[str, Any]:
    """The tensors and plain values of a checkpoint.

    Raises:
        CheckpointError: it is no local file, holds more than those, or cannot be read.
    """
    if "://" in str(path):
        raise CheckpointError(f"checkpoints are read from local files only, not from {path}")
    try:
        if Path(path).is_dir():
            from ssl_zoo.pretrain.checkpoint_shards import read  # its imports take long

            return read(Path(path))
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, or is damaged; it was not opened: {error}"
        ) from error
    except (OSError, RuntimeError, EOFError, LookupError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error


def refuse_other_files(path: Path) -> None:
    """Raise CheckpointError, saying what it is, if a file is no checkpoint that training can go on from."""
    advice = "resume= takes a file that training wrote, RUN/checkpoints/step-*.ckpt, or auto"
    if path.is_dir() and (path / MANIFEST).is_file():
        if problem := whole(path):
            raise CheckpointError(f"resume={path} is damaged: {problem}; {advice}")
        return
    if not path.is_file():
        raise CheckpointError(f"resume={path} is no file, but a folder or the like; {advice}")
    with open(path, "rb") as file:
        start = file.read(9)
    if len(start) == 9 and start.endswith(b"{"):  # the length of a header of JSON, and the header
        raise CheckpointError(f"resume={path} is a safetensors file, which holds weights alone; {advice}")
    if not start.startswith(b"PK"):
        raise CheckpointError(f"resume={path} is no checkpoint: torch.save writes zip archives; {advice}")
    if sidecar(path).exists() and (problem := whole(path)):
        raise CheckpointError(f"resume={path} is damaged: {problem}; {advice}")
    found = read_checkpoint(path)
    keys = list(found) if isinstance(found, dict) else []
    if missing := [part for part in PARTS if part not in keys]:
        held = f"a {type(found).__name__} of {', '.join(map(str, keys[:5])) or 'other things'}"
        raise CheckpointError(f"resume={path} holds {held}, without {', '.join(missing)}; {advice}")


def whole(path: Path) -> str | None:
    """None if the checkpoint is as it was written, else what is wrong with it."""
    if path.is_dir():
        return whole_folder(path)
    if not sidecar(path).exists():
        return "its sidecar is missing"
    try:
        about = json.loads(sidecar(path).read_bytes())
        size, sha256 = about["size"], about["sha256"]
    except (ValueError, KeyError, TypeError):
        return "its sidecar is damaged"
    if path.stat().st_size != size:
        return f"it has {path.stat().st_size} bytes instead of {size}"
    if digest(path) != sha256:
        return "its SHA-256 is not the one recorded"
    return None


def whole_folder(folder: Path) -> str | None:
    """As `whole`, of a checkpoint of parts."""
    if not (folder / MANIFEST).is_file():
        return "its manifest is missing"
    try:
        files = json.loads((folder / MANIFEST).read_bytes())
        known = {name: (one["size"], one["sha256"]) for name, one in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its manifest is damaged"
    for name, (size, _) in known.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (found := (folder / name).stat().st_size) != size:
            return f"{name} has {found} bytes instead of {size}"
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        for name, sha256 in zip(known, pool.map(lambda name: digest(folder / name), known), strict=True):
            if sha256 != known[name][1]:
                return f"the SHA-256 of {name} is not the one recorded"
    return None


def checkpoints(folder: Path) -> list[Path]:
    """All that training wrote there, step-STEP.ckpt, newest first; a copy by another name is not one."""
    found = [path for path in folder.glob("step-*.ckpt") if path.stem.removeprefix("step-").isdecimal()]
    return sorted(found, reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; None if there never was one.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    found = checkpoints(folder)
    for path in found:
        problem = whole(path)
        if problem is None:
            return path
        warnings.warn(f"skipping {path}: {problem}", stacklevel=2)
    if found:
        raise CheckpointError(
            f"none of the {len(found)} checkpoints in {folder} is whole; training will not start over in "
            "silence: delete the run folder or choose another run name to start from scratch"
        )
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what killed writers left behind."""
    for path in checkpoints(folder)[keep:]:
        if path.is_dir():
            # Half deleted, it would look like one that is damaged.
            path = path.rename(path.with_name(f".{path.name}.{os.getpid()}.part"))
            shutil.rmtree(path, ignore_errors=True)
            continue
        path.unlink(missing_ok=True)
        sidecar(path).unlink(missing_ok=True)
    for part in folder.glob(".*.part"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
