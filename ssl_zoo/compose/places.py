"""Where configurations lie: the library's own folder and the user's, their groups and the choices of each."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from ssl_zoo.compose.gate import ConfigError, config_folder


class Place(NamedTuple):
    """Where configurations lie, as Hydra's flags say it.

    Attributes:
        folder: of the user's own configurations; None without one.
        alone: whether this library's own folder is left out (--config-path).
        name: of the configuration, where it is not the verb's (--config-name).
    """

    folder: Path | None = None
    alone: bool = False
    name: str | None = None

    def folders(self) -> list[Path]:
        """The folders that are searched, first ones first."""
        own = [] if self.folder is None else [self.folder]
        return own if self.alone else [*own, config_folder()]


SHIPPED = Place()


def place_of(flags: Namespace) -> Place:
    """The place that Hydra's flags name. Raises ConfigError for a folder that is not there."""
    given = flags.config_path or flags.config_dir
    folder = Path(given).absolute() if given else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"the folder of configurations {str(folder)!r} does not exist")
    return Place(folder, flags.config_path is not None, flags.config_name)


def groups(place: Place = SHIPPED) -> list[str]:
    """The names of all groups: objective, backbone, data, ..."""
    return sorted({p.name for folder in place.folders() for p in folder.iterdir() if p.is_dir()})


def options(group: str, place: Place = SHIPPED) -> list[str]:
    """The choices of a group: of the group `data`, digits, cifar10, ..."""
    found = (
        (folder / group, path) for folder in place.folders() for path in (folder / group).rglob("*.yaml")
    )
    return sorted({path.relative_to(root).with_suffix("").as_posix() for root, path in found})


def known(group: str, place: Place = SHIPPED) -> str:
    """A sentence that lists the choices of a group."""
    return f"Choices for {group}: {', '.join(options(group, place))}"
