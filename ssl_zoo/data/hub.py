"""Data sets of the Hugging Face hub, or of a folder, read by the package `datasets`.

A set is called NAME, NAME@CONFIG of one with several configurations, or is a folder: one in which
`save_to_disk` left it, or files as they lie on the hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssl_zoo.data.hub_folders import saved
from ssl_zoo.data.rows import DataError


def library() -> Any:
    """The package.

    Raises:
        DataError: it is not installed.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(
            "data sets of the Hugging Face hub need the datasets library: pip install 'ssl-zoo[hf]'"
        ) from error
    return datasets


def parted(name: str) -> tuple[str, str | None]:
    """The place and the configuration that a name says."""
    place, _, config = (name, "", "") if Path(name).exists() else name.partition("@")
    return place, config or None


def splits(name: str) -> dict[str, Any]:
    """Split -> its table. All of them are fetched, as the package does for one of them too.

    Raises:
        DataError: there is no such set, or it cannot be read.
    """
    datasets = library()
    place, config = parted(name)
    try:
        if saved(Path(place)):
            found = datasets.load_from_disk(place)
            return dict(found) if isinstance(found, dict) else {"train": found}
        return dict(datasets.load_dataset(place, config))
    except Exception as error:  # the network, the hub and the builder each raise their own
        told = " ".join(str(error).split())
        if "config" in told.lower() and config is None:
            told += f" (data=hf:{name}@CONFIG)"
        raise DataError(f"hf:{name} could not be loaded: {told}") from error


def table(name: str, split: str) -> Any:
    """The table of one split.

    Raises:
        DataError: there is no such set or split, or it cannot be read.
    """
    if saved(Path(name)):
        found = splits(name)
        if split not in found:
            raise DataError(f"hf:{name}:{split}: there is no such split, of {', '.join(found)}")
        return found[split]
    datasets = library()
    place, config = parted(name)
    try:
        return datasets.load_dataset(place, config, split=split)
    except Exception as error:  # as above
        raise DataError(f"hf:{name}:{split} could not be loaded: {error}") from error
