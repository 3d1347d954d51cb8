"""A pretraining run, as scripts and notebooks hold it."""

from __future__ import annotations

import json
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_zoo.backbones._base import Backbone


class Run:
    """A pretraining run in its folder.

    Args:
        path: the folder.
        backbone: the trained backbone, for a class outside of this library, which the folder alone does not
            open.

    Raises:
        ConfigError: the folder holds no run.
    """

    def __init__(self, path: str | PathLike[str], backbone: Backbone | None = None):
        self.path = Path(path)
        if backbone is not None:
            self.backbone = backbone
        if not (self.path / "config.yaml").exists():
            from ssl_zoo.compose.gate import ConfigError

            raise ConfigError(f"{self.path} holds no run: there is no config.yaml that pretrain wrote")

    @cached_property
    def backbone(self) -> Backbone:
        """The trained backbone, on the CPU, in evaluation mode. Raises HubError before training has ended."""
        from ssl_zoo import hub

        return hub.load(self.path)

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds once training has ended; {} before that."""
        file = self.path / "summary.json"
        return json.loads(file.read_bytes()) if file.exists() else {}

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that was asked for, which config.yaml holds."""
        import yaml

        return yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))

    def __fspath__(self) -> str:
        return fspath(self.path)

    def __repr__(self) -> str:
        found = self.summary
        if not found:
            return f"Run in {self.path}: not finished"
        losses = [f"{name} {found[name]:.4g}" for name in ("val/loss", "train/loss") if name in found]
        parts = [
            f"{found['objective']} on {found['backbone']}",
            f"{found['steps']:,} steps in {found['seconds']:,.0f} s",
            "stopped before its end" if found["stopped"] else "finished",
            *losses,
        ]
        return f"Run in {self.path}: {', '.join(parts)}"


def held_backbone(run: Any) -> Backbone | None:
    """The backbone that a run was handed, because its folder alone does not open it, or holds already; None
    for a path, and where the folder is still to be opened."""
    return run.__dict__.get("backbone") if isinstance(run, Run) else None
