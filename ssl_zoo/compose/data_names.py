"""What runs and evaluations on files of one's own are called after."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_zoo.compose.gate import config_folder
from ssl_zoo.data.split_names import split_of


def own_name(data: DictConfig, choice: str) -> str:
    """What runs and evaluations are called after: the choice, or where other files are named, their own name.

    It is the same for the same paths, and ends in a digest of them: two folders called photos differ.
    """
    file = config_folder() / "data" / f"{choice}.yaml"
    if not file.is_file():
        return file_name(choice)
    usual, now = (OmegaConf.to_container(one, resolve=False) for one in (OmegaConf.load(file), data))
    assert isinstance(usual, dict)
    assert isinstance(now, dict)
    keys = [k for k in ("train", "validation", "test", "unlabelled", "splits") if now.get(k) != usual.get(k)]
    if not keys:
        return choice
    sources = {key: absolute(OmegaConf.to_container(data, resolve=True)[key]) for key in keys}  # pyright: ignore
    digest = hashlib.blake2b(json.dumps(sources, sort_keys=True).encode(), digest_size=3).hexdigest()
    if choice not in ("image_folder", "image_captions", "text_files", "text_pairs"):
        return f"{choice}-{digest}"
    named = data.get("name")
    stem = named if named and named != usual.get("name") else stem_of(sources.get("train", sources[keys[0]]))  # pyright: ignore
    return file_name(f"{stem}-{digest}")


def file_name(text: str) -> str:
    """A text as the name of a file or folder: signs that are no letters, digits, dots or dashes go."""
    return re.sub(r"[^\w.-]+", "_", text)


def absolute(source: Any) -> Any:
    """A source with its paths from the root; names such as hf:NAME:SPLIT as they are."""
    if isinstance(source, dict):
        return {str(key): absolute(value) for key, value in source.items()}
    if isinstance(source, list):
        return [absolute(value) for value in source]
    text = os.path.expanduser(str(source))
    return source if source is None or re.match(r"(hf|torchvision):", text) else os.path.abspath(text)


def stem_of(source: Any) -> str:
    """The name of a folder or file; of one called train, that of the folder it lies in."""
    while isinstance(source, (dict, list)):
        source = next(iter(source.values() if isinstance(source, dict) else source), "data")
    path = Path(str(source).rpartition(":")[2])
    stem = path.name.partition(".")[0]
    return path.parent.name or stem if split_of(stem) == "train" or "*" in stem else stem
