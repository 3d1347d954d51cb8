"""Where images come from: a string becomes a stream of encoded images and labels, or a list of their places.

A source is a string: `digits`, `torchvision:CLASS:SPLIT`, `hf:NAME:SPLIT`, a folder (of class folders,
or flat and so unlabelled), an image file, a table of images, or the path or glob of shards in WebDataset form
(`KEY.jpg` then `KEY.cls` in a `.tar` or `.tar.gz`), which are read as a stream and never unpacked to disk.
"""

from __future__ import annotations

import glob
import inspect
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ssl_zoo.data import hub, image_tables
from ssl_zoo.data.image_classes import class_index
from ssl_zoo.data.image_decoding import suffixes
from ssl_zoo.data.image_folder import Folder, Found, read_folder
from ssl_zoo.data.image_listing import list_folder, list_shards, list_table
from ssl_zoo.data.image_samples import Sample, Samples, Source
from ssl_zoo.data.image_shards import SHARDS, read_shard
from ssl_zoo.data.rows import DataError, absent


def resolve(spec: str, cache: Path, image: int | str | None = None, label: int | str | None = None) -> Source:
    """The source that a string names. Looks at names, sizes and times; reads no image.

    image, label: columns of a table (see `image_tables`).

    Raises:
        DataError: nothing is there, it holds no images, or the string is none of the known kinds.
    """
    kind, _, rest = spec.partition(":")
    if spec == "digits":
        return Source(spec, ("digits",), lambda _: _digits())
    if kind in ("torchvision", "hf"):
        name, _, split = rest.rpartition(":")
        if not name or not split:
            raise DataError(f"the source {spec!r} lacks a part: write {kind}:NAME:SPLIT")
        if kind == "hf":
            return Source(
                spec, (spec,), lambda _: _hf(name, split), lambda: list_table(spec, *_table(name, split))
            )
        return Source(spec, (spec,), lambda _: _torchvision(name, split, cache / "torchvision"))
    try:
        path = Path(spec).expanduser()
        if path.is_dir():
            return _folder(spec, path)
        if path.is_file() and path.suffix.lower() in suffixes():
            return _image(spec, path)
        if path.is_file() and image_tables.is_table(path):
            return image_tables.table_source(spec, path, image_tables.Columns(image, label))
        return _shards(spec, path, cache)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of an unknown user
        raise DataError(f"the source {spec!r} cannot be read: {error}") from error


def _shards(spec: str, path: Path, cache: Path) -> Source:
    found = [path] if path.exists() else _glob(path)
    if not found:
        raise DataError(absent("images", spec, path))
    if wrong := [str(p) for p in found if not (p.name.endswith(SHARDS) and p.is_file())]:
        raise DataError(f"{wrong[0]} is neither a folder nor a shard ({', '.join(SHARDS)})")
    found, again = _once(found)
    identity = ("shards", *((p.name, *_stamp(p)) for p in found))

    def read(max_pixels: int) -> Samples:
        left: Counter[str] = Counter()
        stream = (Sample(*s) for p in found for s in read_shard(p, max_pixels, left))
        return Samples(stream, left=left)

    out = {"links to shards that are read anyway": again} if again else {}
    return Source(spec, identity, read, lambda: list_shards(spec, found, identity, cache), left=out)


def _glob(path: Path) -> list[Path]:
    """What matches a pattern; folders that exist are meant literally, whatever their names contain."""
    there = next(p for p in path.parents if p.exists())
    found = glob.glob(str(path.relative_to(there)), root_dir=there, recursive=True)
    return [there / name for name in sorted(found)]


def _once(paths: list[Path]) -> tuple[list[Path], int]:
    """The files, each by one path, in the order of these, and how many other paths lead to the same files.

    Where several lead to one, that is taken which is no link and passes through the fewest folders.
    """
    chosen: dict[tuple[int, int], Path] = {}
    for path in sorted(paths, key=lambda p: (p.is_symlink(), len(p.parts))):
        about = os.stat(path)
        chosen.setdefault((about.st_dev, about.st_ino), path)
    kept = set(chosen.values())
    return [path for path in paths if path in kept], len(paths) - len(kept)


def _stamp(path: Path) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_size, about.st_mtime_ns


def _image(spec: str, path: Path) -> Source:
    """One image, without a label."""
    about = path.stat()
    only = Folder([Found(path.name, about.st_size, about.st_mtime_ns)], [-1], (), Counter())
    return _files(spec, path.parent, only)


def _folder(spec: str, root: Path) -> Source:
    return _files(spec, root, read_folder(spec, root))


def _files(spec: str, root: Path, found: Folder) -> Source:
    files, labels, classes, left = found
    names = [file.name for file in files]

    def stream() -> Iterator[Sample]:
        for name, label in zip(names, labels, strict=True):
            yield Sample(str(root / name), root / name, label)

    sizes = [file.size for file in files]
    return Source(
        spec,
        ("folder", *map(tuple, files)),
        lambda _: Samples(stream(), classes, len(names)),
        lambda: list_folder(spec, root, names, sizes, labels, classes),
        len(names),
        left,
    )


def _digits() -> Samples:
    """scikit-learn's 1,797 handwritten digits, 8x8, values 0 to 16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)  # pyright: ignore[reportAttributeAccessIssue]
    labels = data.target  # pyright: ignore[reportAttributeAccessIssue]
    stream = (
        Sample(f"digits:{i}", Image.fromarray(image), int(label))
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    return Samples(stream, tuple("0123456789"), len(labels))


def _torchvision(name: str, split: str, root: Path) -> Samples:
    """A class of torchvision.datasets, downloaded into `root` where it is not there yet."""
    from torchvision import datasets

    build = getattr(datasets, name, None)
    if not callable(build):  # in small letters it may be one of the package's modules
        raise DataError(f"torchvision.datasets has no {name!r}; CIFAR10, CIFAR100 and STL10 are some it has")
    accepted = inspect.signature(build).parameters
    options: dict[str, object] = {"download": True} if "download" in accepted else {}
    if "split" in accepted:
        options["split"] = split
    elif "train" in accepted and split in ("train", "test"):
        options["train"] = split == "train"
    else:
        raise DataError(f"torchvision.datasets.{name} has no split {split!r}; try 'train' or 'test'")
    root.mkdir(parents=True, exist_ok=True)
    try:
        data: Any = build(root=str(root), **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"torchvision could not give {name}:{split} ({error}). Without a network, put the files that "
            f"torchvision downloads into {root}"
        ) from error

    def stream() -> Iterator[Sample]:
        for i in range(len(data)):
            image, label = data[i]
            if not isinstance(label, int | np.integer | torch.Tensor):
                raise DataError(
                    f"{name}:{split}:{i} has no class index but {label!r:.40}: this source needs one"
                )
            # Labels below 0 are how STL10 marks its unlabelled images.
            yield Sample(f"{name}:{split}:{i}", image, class_index(int(label), f"{name}:{split}:{i}"))

    return Samples(stream(), tuple(map(str, getattr(data, "classes", ()))), len(data))


def _table(name: str, split: str) -> tuple[Any, str, str | None, tuple[str, ...]]:
    """A split of a Hugging Face data set with its image column, class column if any, and classes."""
    datasets, data = hub.library(), hub.table(name, split)
    images = [key for key, feature in data.features.items() if isinstance(feature, datasets.Image)]
    labels = [key for key, feature in data.features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = ["label"] if "label" in labels else labels
    if len(images) != 1 or len(labels) > 1:
        raise DataError(
            f"hf:{name}:{split} has image columns {images} and class columns {labels}; this source reads "
            "one image column and at most one class column (of several, the one called 'label')"
        )
    classes = tuple(data.features[labels[0]].names) if labels else ()
    data = data.cast_column(images[0], datasets.Image(decode=False))
    return data, images[0], labels[0] if labels else None, classes


def _hf(name: str, split: str) -> Samples:
    data, image, label, classes = _table(name, split)

    def stream() -> Iterator[Sample]:
        for i, row in enumerate(data):
            cell, y = row[image], None if label is None else row[label]
            if cell is None:
                raise DataError(f"hf:{name}:{split}:{i} has no image")
            encoded = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])
            place = f"hf:{name}:{split}:{i}"
            yield Sample(place, encoded, -1 if y is None else class_index(int(y), place))

    return Samples(stream(), classes, len(data))
