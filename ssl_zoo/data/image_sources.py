"""Where images come from: a string becomes a stream of encoded images and labels, or a list of their places.

A source is a string: `digits`, `torchvision:CLASS:SPLIT`, `hf:NAME:SPLIT`, a folder (of class folders,
or flat and so unlabelled), or the path or glob of `.tar` / `.tar.gz` shards in WebDataset form
(`KEY.jpg` then `KEY.cls`), which are read as a stream and never unpacked to disk.
"""

from __future__ import annotations

import glob
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssl_zoo.data.absent import absent
from ssl_zoo.data.image_listing import Listing, list_folder, list_shards, list_table
from ssl_zoo.data.image_shards import IMAGES, SHARDS, read_shard
from ssl_zoo.data.rows import DataError


class Sample(NamedTuple):
    """name: how errors call it. image: encoded, or where, or decoded. label: -1 = unlabelled."""

    name: str
    image: bytes | Path | Image.Image
    label: int


class Samples(NamedTuple):
    """stream: in a fixed order. classes: () where the source names none. total: how many, if known."""

    stream: Iterator[Sample]
    classes: tuple[str, ...] = ()
    total: int | None = None


@dataclass(frozen=True)
class Source:
    """spec: the string. identity: changes when the files do. open: starts reading. list: says where each
    image lies, for reading them one by one; None where they cannot be. count: how many, if known."""

    spec: str
    identity: tuple[object, ...]
    open: Callable[[], Samples]
    list: Callable[[], Listing] | None = None
    count: int | None = None


def resolve(spec: str, cache: Path) -> Source:
    """The source that a string names. Looks at names, sizes and times; reads no image.

    Raises:
        DataError: nothing is there, it holds no images, or the string is none of the known kinds.
    """
    kind, _, rest = spec.partition(":")
    if spec == "digits":
        return Source(spec, ("digits",), _digits)
    if kind in ("torchvision", "hf"):
        name, _, split = rest.rpartition(":")
        if not name or not split:
            raise DataError(f"the source {spec!r} lacks a part: write {kind}:NAME:SPLIT")
        if kind == "hf":
            return Source(
                spec, (spec,), lambda: _hf(name, split), lambda: list_table(spec, *_table(name, split))
            )
        return Source(spec, (spec,), lambda: _torchvision(name, split, cache / "torchvision"))
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(spec, path)
    found = [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        raise DataError(absent("images", spec, path))
    if wrong := [str(p) for p in found if not p.name.endswith(SHARDS)]:
        raise DataError(f"{wrong[0]} is neither a folder nor a shard ({', '.join(SHARDS)})")
    identity = ("shards", *((p.name, *_stamp(p)) for p in found))
    return Source(
        spec,
        identity,
        lambda: Samples(Sample(*s) for p in found for s in read_shard(p)),
        lambda: list_shards(spec, found, identity, cache),
    )


def _stamp(path: Path | str) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns


def _walk(root: Path) -> Iterator[str]:
    """Image files below `root` as relative posix paths; hidden files and folders are left out."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(IMAGES) and not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()


def _folder(spec: str, root: Path) -> Source:
    names = sorted(_walk(root))
    flat = sum("/" not in name for name in names)
    if not names:
        shards = any(p.name.endswith(SHARDS) for p in root.iterdir())
        hint = f"it holds shards: write '{spec}/*.tar*'" if shards else f"looked for {', '.join(IMAGES)}"
        raise DataError(f"the folder {spec!r} holds no images ({hint})")
    if 0 < flat < len(names):
        raise DataError(
            f"the folder {spec!r} holds {flat} images beside folders with {len(names) - flat} more: either "
            "all lie in class folders, or all lie directly in it"
        )
    classes = () if flat else tuple(sorted({name.partition("/")[0] for name in names}))
    if not flat:
        folders = {p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")}
        if empty := sorted(folders - set(classes)):
            raise DataError(f"these class folders of {spec!r} hold no images: {', '.join(empty)}")
    number = {name: i for i, name in enumerate(classes)}
    labels = [number.get(name.partition("/")[0], -1) for name in names]
    stamps = [_stamp(root / name) for name in names]

    def stream() -> Iterator[Sample]:
        for name, label in zip(names, labels, strict=True):
            yield Sample(str(root / name), root / name, label)

    identity = ("folder", *((name, *stamp) for name, stamp in zip(names, stamps, strict=True)))
    sizes = [size for size, _ in stamps]
    return Source(
        spec,
        identity,
        lambda: Samples(stream(), classes, len(names)),
        lambda: list_folder(spec, root, names, sizes, labels, classes),
        len(names),
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
    if build is None:
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
        data = build(root=str(root), **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"torchvision could not give {name}:{split} ({error}). Without a network, put the files that "
            f"torchvision downloads into {root}"
        ) from error
    # Labels below 0 are how STL10 marks its unlabelled images.
    stream = (
        Sample(f"{name}:{split}:{i}", image, max(int(label), -1))
        for i, (image, label) in ((i, data[i]) for i in range(len(data)))
    )
    return Samples(stream, tuple(map(str, getattr(data, "classes", ()))), len(data))


def _table(name: str, split: str) -> tuple[Any, str, str | None, tuple[str, ...]]:
    """A split of a Hugging Face data set with its image column, class column if any, and classes."""
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"the source 'hf:{name}:{split}' needs the package `datasets`: pip install 'ssl-zoo[hf]'"
        ) from error

    data = datasets.load_dataset(name, split=split)
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
            encoded = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])
            yield Sample(f"hf:{name}:{split}:{i}", encoded, -1 if y is None else int(y))

    return Samples(stream(), classes, len(data))
