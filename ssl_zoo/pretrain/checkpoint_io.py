"""How Lightning writes and reads checkpoints here."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ssl_zoo.hub import digest
from ssl_zoo.portable import sync
from ssl_zoo.pretrain.background import Background
from ssl_zoo.pretrain.checkpoint import CheckpointError, read_checkpoint, sidecar
from ssl_zoo.pretrain.writing import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writing, made safe against crashes and full disks; reads tensors only.

    Args:
        background: what writes; None: this does, at once.
    """

    def __init__(self, background: Background | None = None):
        super().__init__()
        self.background = background or Background()

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options=None) -> None:
        self.background.do(partial(self.write, self.background.frozen(checkpoint), Path(path)))

    def write(self, checkpoint: dict[str, Any], path: Path) -> None:
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
        return read_checkpoint(path, map_location)

    def teardown(self) -> None:
        self.background.finish()
