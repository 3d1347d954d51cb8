"""Save a backbone and open it again, without Hydra or Lightning: safetensors and JSON only.

backbone/
  config.json         kind, arguments, direction, format version
  model.safetensors
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ssl_zoo.backbones._base import Backbone, TokenBackbone

FORMAT = 1
KINDS = {  # the only classes a saved file may name
    "TextTransformer": "ssl_zoo.backbones.transformer",
    "TimmViT": "ssl_zoo.backbones.vision",
    "TimmCNN": "ssl_zoo.backbones.vision",
    "HFBackbone": "ssl_zoo.backbones.hf",
}


class HubError(RuntimeError):
    """A saved backbone could not be opened; says which file and why."""


def describe(backbone: Backbone) -> dict[str, Any]:
    """What `build` needs: kind and arguments, as plain JSON values."""
    causal = backbone.causal if isinstance(backbone, TokenBackbone) else False
    return {
        "format": FORMAT,
        "kind": type(backbone).__name__,
        "config": backbone.config,
        "causal": causal,
        "modality": backbone.modality,
        "dim": backbone.dim,
    }


def build(about: dict[str, Any]) -> Backbone:
    """A freshly initialised backbone of this description.

    Raises:
        HubError: a kind this library does not know, or a newer format.
    """
    if about.get("format") != FORMAT:
        raise HubError(
            f"backbone format {about.get('format')} is not {FORMAT}: use the ssl_zoo that wrote it"
        )
    kind = about["kind"]
    if kind not in KINDS:
        raise HubError(
            f"backbone kind {kind!r} is not one of {sorted(KINDS)}; for a class of your own, build it and "
            "call ssl_zoo.load(path, backbone=yours)"
        )
    backbone: Backbone = getattr(importlib.import_module(KINDS[kind]), kind)(**about["config"])
    if isinstance(backbone, TokenBackbone):
        backbone.causal = about["causal"]
    return backbone


def save(backbone: Backbone, folder: str | Path) -> Path:
    """Write the backbone to `folder`, replacing what is there; the old one stays until the new is whole."""
    folder = Path(folder)
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    state = {name: value.detach().cpu().contiguous().clone() for name, value in backbone.state_dict().items()}
    save_file(state, part / "model.safetensors")
    (part / "config.json").write_text(json.dumps(describe(backbone), indent=1) + "\n")
    # safetensors makes files that only their owner may read.
    shutil.copymode(part / "config.json", part / "model.safetensors")
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def locate(path: str | Path) -> Path:
    """The backbone folder of a run folder, or the folder itself."""
    path = Path(path)
    for folder in (path / "backbone", path):
        if (folder / "config.json").exists():
            return folder
    raise HubError(
        f"no backbone in {path}: expected config.json there or in {path / 'backbone'}; it is written when "
        "`ssl-zoo pretrain` ends (resume an unfinished run with resume=auto)"
    )


def load(path: str | Path, backbone: Backbone | None = None) -> Backbone:
    """Open a saved backbone, on the CPU, in evaluation mode.

    Args:
        path: a run folder, or the folder `save` wrote.
        backbone: an instance to fill, for classes outside this library.

    Raises:
        HubError: nothing there, a damaged file, or weights that do not fit.
    """
    folder = locate(path)
    about = json.loads((folder / "config.json").read_text())
    backbone = build(about) if backbone is None else backbone
    file = folder / "model.safetensors"
    try:
        backbone.load_state_dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise HubError(f"{file} cannot be read: {error}") from error
    except RuntimeError as error:
        raise HubError(f"{file} does not fit {about['kind']}: {error}") from error
    return backbone.eval()
