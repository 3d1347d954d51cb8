"""data=ADDRESS: files on a web server or in a bucket, read as what their names say, which is said."""

from __future__ import annotations

import re
from pathlib import Path

from ssl_zoo.compose import overrides
from ssl_zoo.compose.gate import ConfigError
from ssl_zoo.compose.own_files import kind_of
from ssl_zoo.data.schemes import is_address
from ssl_zoo.messages import note


def is_elsewhere(value: str) -> bool:
    """Whether a value of data= names its protocol, or a folder of MDS shards, which is read like one."""
    folder = Path(value).expanduser()
    if (folder / "index.json").is_file() and any(folder.glob("*.mds*")):
        return True
    return is_address(value)


def at_address(verb: str, address: str, given: list[str]) -> list[str]:
    """The words that read what lies at an address: shards of images, or texts.

    Raises:
        ConfigError: nothing that is read from addresses, a stream of images for another verb than pretrain,
            or a table whose columns nobody names.
    """
    last = address.rstrip("/").rpartition("/")[2]
    kind = kind_of(Path(last))
    name = f"data.name={overrides.quote(re.sub(r'[^A-Za-z0-9_-]+', '_', last) or 'stream')}"
    train = f"data.train={overrides.quote(address)}"
    if last.endswith(".bin"):
        if verb not in ("pretrain", "scale"):
            raise ConfigError(
                f"data={address}: a stream of tokens has no labels, and is for pretrain; {verb} takes texts"
            )
        note(f"data={address}: shards of tokens, read from where they are (data=text_stream data.train=...)")
        return ["data=text_stream", train, name]
    if kind in ("texts", "tables"):
        suffix = re.sub(r"\.(gz|xz|bz2|zst)$", "", last.lower())
        formed = any(overrides.split(word).key.startswith(("data.format", "+data.format")) for word in given)
        if kind == "tables" and not suffix.endswith(".jsonl") and not formed:
            raise ConfigError(
                f"data={address}: the columns of a table at an address are not guessed. Name them: "
                f"data=text_files '{train}' "
                "'data.format={_target_:ssl_zoo.data.text_formats.Table,text:COLUMN}'"
            )
        note(
            f"data={address}: texts, whose tokens are all kept in the cache (data=text_files data.train=...; "
            "data=text_stream keeps a part of them)"
        )
        return ["data=text_files", train, name]
    if kind not in (None, "shards") or (kind == "shards" and not last.endswith(".tar")):
        raise ConfigError(
            f"data={address}: images at addresses are read from shards: .tar files in WebDataset form, as "
            "https://HOST/train-{000..127}.tar, or a folder of MDS shards"
        )
    if verb not in ("pretrain", "scale", "embed"):
        raise ConfigError(
            f"data={address}: a stream of images has no labels, and is for pretrain and embed; {verb} takes "
            "images that lie here, data=FOLDER"
        )
    note(f"data={address}: shards of images, read from where they are (data=image_stream data.train=...)")
    return ["data=image_stream", train, name, *(["data.validation_fraction=0.0"] if verb == "embed" else [])]
