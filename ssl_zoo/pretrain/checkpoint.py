"""Checkpoints that are whole or absent, and how to find the newest whole one.

A file is written beside its place, flushed to the disk, and renamed over it; a sidecar with its size
and SHA-256 is in place first. A crash at any moment leaves the older checkpoints untouched.
"""

from __future__ import annotations

import glob
import json
import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ssl_zoo.data.cache import sync
from ssl_zoo.hub import digest

# What a checkpoint of training holds, at least; weights alone do not say how to go on.
PARTS = ("global_step", "loops", "optimizer_states", "seconds", "state_dict")


class CheckpointError(RuntimeError):
    """No checkpoint could be written or read; says which and why."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write all of `data`, or leave the file as it was. What killed writers of this file left is removed.

    Raises:
        OSError: it could not be written; names the file.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        number = left.name.split(".")[-2]
        if number.isdecimal() and not alive(int(number)):
            left.unlink(missing_ok=True)
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # A full disk does not say where.
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def alive(process: int) -> bool:
    """Whether another process of this number runs on this machine."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sidecar(path: Path) -> Path:
    """The file that holds size and SHA-256 of a checkpoint, beside it."""
    return path.with_suffix(".json")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writing, made safe against crashes and full disks; reads tensors only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options=None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with open(part, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            about = {"size": part.stat().st_size, "sha256": digest(part)}
            write_atomically(sidecar(path), json.dumps(about).encode())
            os.replace(part, path)
            sync(path.parent)
        except (OSError, RuntimeError) as error:
            needed = part.stat().st_size if part.exists() else 0
            free = shutil.disk_usage(path.parent).free
            raise CheckpointError(
                f"could not write {path}: {error}. {needed:,} bytes were written before, {free:,} are free. "
                "Older checkpoints are untouched; make room and resume."
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def load_checkpoint(self, path, map_location=None, weights_only=None) -> dict[str, Any]:
        if "://" in str(path):
            raise CheckpointError(f"checkpoints are read from local files only, not from {path}")
        try:
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
    found = AtomicCheckpointIO().load_checkpoint(path)
    keys = list(found) if isinstance(found, dict) else []
    if missing := [part for part in PARTS if part not in keys]:
        held = f"a {type(found).__name__} of {', '.join(map(str, keys[:5])) or 'other things'}"
        raise CheckpointError(f"resume={path} holds {held}, without {', '.join(missing)}; {advice}")


def whole(path: Path) -> str | None:
    """None if the checkpoint is as it was written, else what is wrong with it."""
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
        path.unlink(missing_ok=True)
        sidecar(path).unlink(missing_ok=True)
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
