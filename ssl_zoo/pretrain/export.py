"""The backbone of a run, exported: written at the end, and again where it is not that of the last step."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone


def exported(backbone: Backbone, folder: Path) -> bool:
    """Whether `folder` holds these weights, to the bit, and their description."""
    try:
        about = json.loads((folder / "config.json").read_bytes())
        state = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError):
        return False
    now = backbone.state_dict()
    same = state.keys() == now.keys() and all(
        value.dtype == now[k].dtype and torch.equal(value, now[k].cpu()) for k, value in state.items()
    )
    return same and about == json.loads(json.dumps(hub.describe(backbone)))
