"""Whether what a run exported is there, whole, and of its last step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.pretrain.checkpoint import checkpoints

FEW = 20  # optimizer steps that teach nothing, whatever the objective


def exported(backbone: Backbone, now: Mapping[str, Tensor], folder: Path) -> bool:
    """Whether `folder` holds this state of a backbone, to the bit, and its description."""
    try:
        about = json.loads((folder / "config.json").read_bytes())
        state = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError):
        return False
    same = state.keys() == now.keys() and all(
        value.dtype == now[k].dtype and torch.equal(value, now[k].cpu()) for k, value in state.items()
    )
    written = hub.digest(folder / "model.safetensors")
    return same and about == json.loads(json.dumps(hub.describe(backbone) | {hub.DIGEST: written}))


def read_summary(file: Path) -> dict[str, Any]:
    """What summary.json holds; nothing where it is missing or damaged."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "stopped" in found else {}


def behind(run: Path) -> str | None:
    """A sentence if a run was trained on since its backbone was exported; None if all is well."""
    steps, found = read_summary(run / "summary.json").get("steps"), checkpoints(run / "checkpoints")
    newest = max((int(path.stem.removeprefix("step-")) for path in found), default=0)
    if not isinstance(steps, int) and found:
        return (
            f"no whole summary.json in {run} says of which step its backbone is, and training came to step "
            f"{newest:,}: `ssl-zoo pretrain` with the same settings writes both again"
        )
    if not isinstance(steps, int) or newest <= steps:
        return None
    return (
        f"the backbone of {run} is of step {steps:,}, and training has come to step {newest:,}: go on with "
        "`ssl-zoo pretrain`, which exports it when it ends"
    )
