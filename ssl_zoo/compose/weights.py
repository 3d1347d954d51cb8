"""Weights that a new backbone starts with: those of an earlier run (init=RUN), or of an exported folder.

They are read once, before the first step: a run that goes on reads its own checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.backbones._base import Backbone
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.untrusted import read_json


def exported_folder(cfg: DictConfig) -> Path | None:
    """The folder that backbone.pretrained names, if this library exported it."""
    named = cfg.backbone.get("pretrained")
    if not isinstance(named, str) or not Path(named).is_dir():
        return None
    try:
        return hub.locate(named) if "format" in read_json(hub.locate(named) / "config.json") else None
    except hub.HubError:
        return None


def drawn(cfg: DictConfig) -> DictConfig:
    """The configuration that the backbone is built from.

    Weights that this library exported are read afterwards, so that `pretrained` is false here. Of a folder
    that timm wrote, timm is told the file, model.safetensors.
    """
    node = cfg.backbone
    if exported_folder(cfg) is not None:
        return OmegaConf.merge(node, {"pretrained": False})  # pyright: ignore[reportReturnType]
    named = node.get("pretrained")
    if isinstance(named, str) and (file := Path(named) / "model.safetensors").is_file():
        return OmegaConf.merge(node, {"pretrained": str(file)})  # pyright: ignore[reportReturnType]
    return node


def start_from(backbone: Backbone, folder: str | Path, key: str) -> None:
    """Give a backbone the weights of a run, or of a folder that `ssl_zoo.save` wrote.

    Args:
        key: what names the folder, for the error.

    Raises:
        HubError: there is no backbone, or its file is damaged.
        ConfigError: it is of another architecture; says what differs.
    """
    there, here = hub.renewed(read_json(hub.locate(folder) / "config.json")), hub.describe(backbone)
    try:
        hub.load(folder, backbone)
    except hub.HubError as error:
        if "does not fit" not in str(error):
            raise
        changed = differences(there, here) or [f"other weights than these {len(backbone.state_dict())}"]
        raise ConfigError(
            f"{key}={folder} holds another backbone than backbone=... builds ({'; '.join(changed)}): give "
            "the same backbone and keys"
        ) from error
    backbone.train()


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """In what two descriptions differ: the class or, where that is the same, the arguments."""
    if there.get("class") != here["class"]:
        return [f"{there.get('class')} there, {here['class']} here"]
    old, new = there.get("config", {}), here["config"]
    as_list = lambda value: list(value) if isinstance(value, tuple) else value  # noqa: E731
    return [
        f"{key} {as_list(old.get(key))} there, {as_list(new.get(key))} here"
        for key in sorted({*old, *new})
        if as_list(old.get(key)) != as_list(new.get(key))
    ]
