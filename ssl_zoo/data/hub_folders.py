"""Folders in which the package `datasets` left a data set; told without loading anything heavy."""

from __future__ import annotations

from pathlib import Path


def saved(folder: Path) -> bool:
    """Whether `save_to_disk` of the package left a data set, or the splits of one, in a folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )
