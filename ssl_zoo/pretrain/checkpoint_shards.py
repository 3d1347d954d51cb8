"""Checkpoints of divided weights: a folder that every process writes its part of.

step-STEP.ckpt/
  __RANK_N.distcp   the parts of the tensors that one process holds (torch.distributed.checkpoint)
  .metadata         which part of which tensor lies in which of these files
  rest.pt           all that is no tensor of weights or of an optimizer
  manifest.json     size and SHA-256 of every other file; it is written last

It is written beside its place, and renamed when the manifest is in it. Tensors are described as one process
would have them: any other number of processes can read them, and so can one that divides nothing.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ssl_zoo.distributed import rank, world
from ssl_zoo.hub import digest
from ssl_zoo.portable import sync
from ssl_zoo.pretrain.checkpoint import MANIFEST, CheckpointError

REST = "rest.pt"
WEIGHTS, OPTIMIZERS = "state_dict", "optimizer_states"
# What the description of where tensors lie is made of. It is a pickle, which could call anything.
HARMLESS = {
    "torch.distributed.checkpoint.metadata": {
        *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
        *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
    "pathlib": {"PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
}


class _Harmless(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in HARMLESS.get(module, ()):
            raise pickle.UnpicklingError(f".metadata names {module}.{name}, which says nothing of a tensor")
        return super().find_class(module, name)


class Reader(FileSystemReader):
    """Reads tensors, and nothing that could run."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        found = _Harmless(io.BytesIO((Path(self.path) / ".metadata").read_bytes())).load()
        if not isinstance(found, Metadata):
            raise ValueError(f".metadata holds a {type(found).__name__}")
        return found


def apart(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint's weights and optimizers by name, and the checkpoint without them."""
    tensors: dict[str, Tensor] = {}
    rest = dict(checkpoint) | {WEIGHTS: {}, OPTIMIZERS: []}

    def keep(name: str, key: Any, value: Any, into: dict[Any, Any]) -> None:
        if isinstance(value, Tensor):
            tensors[name] = value
        else:
            into[key] = value

    for name, value in checkpoint[WEIGHTS].items():
        keep(f"{WEIGHTS}/{name}", name, value, rest[WEIGHTS])
    for number, state in enumerate(checkpoint[OPTIMIZERS]):
        left: dict[int, dict[str, Any]] = {index: {} for index in state["state"]}
        for index, own in state["state"].items():
            for key, value in own.items():
                keep(f"{OPTIMIZERS}/{number}/{index}/{key}", key, value, left[index])
        rest[OPTIMIZERS].append({**state, "state": left})
    return tensors, rest


def joined(tensors: Mapping[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint that `apart` took apart; `rest` becomes it."""
    for name, value in tensors.items():
        part, _, place = name.partition("/")
        if part == WEIGHTS:
            rest[WEIGHTS][place] = value
        else:
            number, index, key = place.split("/", 2)
            rest[OPTIMIZERS][int(number)]["state"][int(index)][key] = value
    return rest


def write(checkpoint: Mapping[str, Any], folder: Path, group: dist.ProcessGroup | None = None) -> None:
    """Write a checkpoint, of which this process has a part (a collective call).

    group: of all processes, in which this is agreed on; None: the one that they train in.

    Raises:
        CheckpointError: in every process, if it could not be written in one. What was there before is kept.
    """
    tensors, rest = apart(checkpoint)
    number = [os.getpid()]
    if world() > 1:
        dist.broadcast_object_list(number, group=group)
    part = folder.with_name(f".{folder.name}.{number[0]}.part")

    def shards() -> dict[str, Any]:
        save(tensors, storage_writer=FileSystemWriter(part), process_group=group)
        return {file.name: about(file) for file in part.glob(f"__{rank()}_*.distcp")}

    def close() -> None:
        torch.save(rest, part / REST)
        sync(part / REST)
        files = {name: one for own in every for name, one in own.items()}
        files |= {name: about(part / name) for name in (".metadata", REST)}
        (part / MANIFEST).write_text(json.dumps(files, indent=1), encoding="utf-8")
        sync(part / MANIFEST)
        sync(part)
        put(part, folder)

    try:
        every = agreed(shards, folder, group)
        agreed(close if rank() == 0 else dict, folder, group)
    finally:
        if rank() == 0:
            shutil.rmtree(part, ignore_errors=True)


def agreed(do: Callable[[], Any], folder: Path, group: dist.ProcessGroup | None) -> list[Any]:
    """What `do` gives in each process, by rank (a collective call).

    Raises:
        CheckpointError: in every process, if it failed in one.
    """
    problem, found = None, None
    try:
        found = do()
    except (OSError, RuntimeError, CheckpointException) as error:
        problem = f"{error}" or type(error).__name__
    told: list[Any] = [(problem, found)]
    if world() > 1:
        told = [None] * world()
        dist.all_gather_object(told, (problem, found), group=group)
    for number, (wrong, _) in enumerate(told):
        if wrong is not None:
            free = shutil.disk_usage(folder.parent).free
            raise CheckpointError(
                f"could not write {folder} (process {number}): {wrong}. {free:,} bytes are free. Older "
                "checkpoints are untouched; make room and resume."
            )
    return [one for _, one in told]


def about(file: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    return {"size": file.stat().st_size, "sha256": digest(file)}


def put(part: Path, folder: Path) -> None:
    """Give a folder its place; of the same step there may be a damaged one."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    sync(folder.parent)
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


Like = Callable[[str, torch.Size, torch.dtype], Tensor]


def read(folder: Path, like: Like | None = None) -> dict[str, Any]:
    """A checkpoint, with tensors that are whole, or divided as those are that `like` gives.

    Args:
        folder: a whole checkpoint.
        like: name (as `apart` gives it), shape and type -> a tensor to fill; all processes have to call.

    Raises:
        OSError, ValueError, pickle.UnpicklingError: it is damaged, or holds more than tensors and values.
    """
    rest = torch.load(folder / REST, map_location="cpu", weights_only=True)
    reader = Reader(folder)
    make = like or (lambda name, size, dtype: torch.empty(size, dtype=dtype))
    tensors = {}
    for name, one in reader.read_metadata().state_dict_metadata.items():
        if not isinstance(one, TensorStorageMetadata):
            raise ValueError(f"{name} in {folder} is no tensor")
        tensors[name] = make(name, one.size, one.properties.dtype)
    alone = like is None or world() == 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            load(tensors, storage_reader=reader, no_dist=alone)
    except CheckpointException as error:
        raise OSError(f"{error}") from error
    return joined(tensors, rest)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in a checkpoint, by name."""
    found = Reader(folder).read_metadata().state_dict_metadata
    prefix = f"{WEIGHTS}/"
    return {
        name.removeprefix(prefix): tuple(one.size)
        for name, one in found.items()
        if name.startswith(prefix) and isinstance(one, TensorStorageMetadata)
    }
