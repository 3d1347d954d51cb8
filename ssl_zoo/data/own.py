"""Images that code holds: a torch Dataset, a list or an array of them, read into memory as rows.

A row is read by its number alone, always the same, so the data set must not draw at random: objectives make
their own views, on the device.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_zoo.backbones._base import Modality
from ssl_zoo.data.image_decoding import as_rgb
from ssl_zoo.data.rows import DataError, Rows, Subset
from ssl_zoo.data.split_names import PARTS
from ssl_zoo.data.splits import carve_parts
from ssl_zoo.objectives._base import Batch

LARGEST = 2**33  # bytes of images that are read into memory


class OwnRows:
    """Images in memory (see `Rows`).

    Args:
        x: (N, 3, H, W) uint8.
        y: (N,) int64 labels from 0, or None.
        classes: names of the labels; () without labels.
    """

    unit = "images"
    units_per_row = 1

    def __init__(self, x: np.ndarray, y: np.ndarray | None, classes: tuple[str, ...]):
        self.x, self.y, self.classes = x, y, classes
        self.nbytes = x.nbytes
        digest = hashlib.blake2b(repr(x.shape).encode(), digest_size=16)
        for part in (x, y):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.x)

    def read(self, index: np.ndarray, epoch: int = 0) -> Batch:
        """The rows `index` (B,): x uint8 (B, 3, H, W), y int64 (B,) or None. `epoch` changes nothing."""
        y = None if self.y is None else torch.from_numpy(self.y[index])
        return Batch(torch.from_numpy(self.x[index]), None, y)

    def __repr__(self) -> str:
        about = f"labels of {len(self.classes)} classes" if self.classes else "no labels"
        return f"{len(self):,} images of {self.x.shape[2]}x{self.x.shape[3]}, {about}"


def rows(dataset: Any, *, classes: Sequence[str] | None = None) -> OwnRows:
    """Images of your own as rows that a run or an evaluation reads. They are read once, into memory.

    Args:
        dataset: a torch map-style Dataset, or a list, whose items are images or pairs (image, label); or
            images (N, 3, H, W), (N, 1, H, W) or (N, H, W, 3). An image is a PIL image, a tensor (C, H, W)
            or an array (H, W, C), C 3 or 1, of uint8, or of floats in [0, 1]. All are of one size.
        classes: names of the labels 0, 1, ...; else those of `dataset.classes`, else "0", "1", ...

    Raises:
        DataError: something else, which says what to hand over instead; images of several sizes, images
            that were normalised, a data set that draws at random, or more than 8 GiB of images.
    """
    refuse_others(dataset)
    x: np.ndarray | None = None
    labels: list[int | None] = []
    for i in range(len(dataset)):
        image, label = item(dataset[i], i)
        pixels = as_pixels(image, i)
        if x is None:
            if len(dataset) * pixels.nbytes > LARGEST:
                raise DataError(
                    f"{len(dataset):,} images of {pixels.shape[1]}x{pixels.shape[2]} are more than "
                    f"{LARGEST >> 30} GiB: save them as files and give data=FOLDER, which reads from the disk"
                )
            x = np.empty((len(dataset), *pixels.shape), np.uint8)
        if pixels.shape != x.shape[1:]:
            raise DataError(
                f"image {i} is {pixels.shape[1]}x{pixels.shape[2]} and image 0 is {x.shape[2]}x{x.shape[3]}: "
                "rows are of one size; put a Resize and a CenterCrop into the data set"
            )
        x[i] = pixels
        labels.append(label)
    if x is None:
        raise DataError("the data set is empty: there is no image to read")
    if not np.array_equal(as_pixels(item(dataset[0], 0)[0], 0), x[0]):
        raise DataError(
            "the data set gives another image each time that image 0 is read: take out what is random in it; "
            "an objective makes the views that it needs"
        )
    named = list(classes) if classes is not None else getattr(dataset, "classes", None)
    y = numbered(labels)
    return OwnRows(x, y, () if y is None else names(y, named))


def refuse_others(dataset: Any) -> None:
    """Raise DataError, with what to hand over instead, for what is no sequence of images."""
    from torch.utils.data import DataLoader, IterableDataset

    kind = type(dataset).__name__
    if isinstance(dataset, DataLoader):
        raise DataError(
            "a DataLoader mixes and batches by itself: hand over its data set, rows(loader.dataset)"
        )
    if isinstance(dataset, str) or hasattr(dataset, "__fspath__"):
        raise DataError(f"{str(dataset)!r} is a path: give it as it is, data={str(dataset)!r}")
    if isinstance(dataset, Mapping):
        raise DataError(
            f"{kind} is a mapping: wrap each split, data={{'train': rows(...), 'validation': rows(...)}}"
        )
    if hasattr(dataset, "train_dataloader"):
        raise DataError(
            f"{kind} is a LightningDataModule: hand over the data set in it, rows(module.train_set)"
        )
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise DataError(f"{kind} cannot be read by number: hand over a map-style Dataset, or list(...) of it")
    if not hasattr(dataset, "__len__"):
        raise DataError(f"{kind} has no length: give the data set a __len__")


def item(one: Any, i: int) -> tuple[Any, int | None]:
    """The image of an item of a data set, and its label, if it has one."""
    if isinstance(one, Mapping):
        keys = ", ".join(map(str, one))
        raise DataError(
            f"item {i} is a mapping of {keys}: hand over pairs, such as "
            "rows([(one['image'], one['label']) for one in dataset])"
        )
    if not isinstance(one, (tuple, list)):
        return one, None
    if len(one) == 1:
        return one[0], None
    image, label, *more = one
    if more:
        raise DataError(f"item {i} holds {len(one)} things: hand over an image, or a pair (image, label)")
    if label is None:
        return image, None
    number = label
    if isinstance(label, (Tensor, np.ndarray, np.generic)) and math.prod(label.shape) == 1:
        number = label.item()
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise DataError(f"item {i} has the label {label!r}: labels are whole numbers from 0 (or None)")
    return image, number


def as_pixels(image: Any, i: int) -> np.ndarray:
    """An image as uint8 (3, H, W); a PIL image of any mode becomes RGB as one that is read from a file does.

    Raises:
        DataError: it is no image, or its pixels have no agreed range.
    """
    if isinstance(image, Image.Image):
        try:
            return np.asarray(as_rgb(image)).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)
        except ValueError as error:
            raise DataError(f"item {i}: {error}") from error
    if isinstance(image, Tensor):
        image = image.float() if image.dtype == torch.bfloat16 else image  # NumPy has no such type
        pixels, channels = image.detach().cpu().numpy(), 0
    elif isinstance(image, np.ndarray):
        pixels, channels = image, 0 if image.ndim == 3 and image.shape[0] in (1, 3) else -1
    else:
        raise DataError(
            f"item {i} is {type(image).__name__}: rows are made of PIL images, tensors (3, H, W) or arrays "
            "(H, W, 3), alone or in a pair with a label"
        )
    pixels = (
        pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, channels, 0) if pixels.ndim == 3 else pixels
    )
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or not pixels.size:
        raise DataError(f"item {i} is of shape {image.shape}: an image is (3, H, W), grey ones (1, H, W)")
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        if not np.issubdtype(pixels.dtype, np.floating) or not (low >= 0 and high <= 1):
            raise DataError(
                f"item {i} holds {pixels.dtype} from {low:.3g} to {high:.3g}: give uint8 from 0 to 255 or "
                "floats in [0, 1], and leave Normalize out, as backbones normalise by themselves"
            )
        pixels = np.rint(pixels * 255).astype(np.uint8)
    return np.broadcast_to(pixels, (3, *pixels.shape[1:]))


def numbered(labels: Sequence[int | None]) -> np.ndarray | None:
    """(N,) int64, or None where no item has a label."""
    missing = sum(label is None for label in labels)
    if missing == len(labels):
        return None
    if missing:
        raise DataError(f"{missing} of {len(labels)} items have no label: label all of them, or none")
    return np.array(labels, np.int64)


def names(y: np.ndarray, named: Any) -> tuple[str, ...]:
    """Names of the classes 0, 1, ..."""
    count = int(y.max()) + 1
    if not isinstance(named, (list, tuple)):
        return tuple(map(str, range(count)))
    if len(named) < count:
        raise DataError(f"{len(named)} classes are named, and there is a label {count - 1}, counted from 0")
    return tuple(map(str, named))


class OwnData:
    """Rows that code holds, as a data set with splits: what is missing is carved from train.

    Args:
        name: what logs call it.
        parts: split ("train", "validation", "test") -> its rows.
        fractions: split -> how much of train it is, where it has no rows of its own.

    Raises:
        DataError: no train split, other names of splits, or images of several sizes.
    """

    modality: ClassVar[Modality] = "image"

    def __init__(self, name: str, parts: Mapping[str, Rows], fractions: Mapping[str, float]):
        self.name, self.parts = name, dict(parts)
        self.fractions = {split: share for split, share in fractions.items() if share and split not in parts}
        if "train" not in parts or set(parts) - set(PARTS):
            raise DataError(
                f"splits of your own are called train, validation and test, not {', '.join(parts)}"
            )
        sizes = {split: tuple(rows.read(np.arange(1)).x.shape[-2:]) for split, rows in parts.items()}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{split} {height}x{width}" for split, (height, width) in sizes.items())
            raise DataError(f"the splits hold images of several sizes ({shown}): resize them to one")
        height, width = sizes["train"]
        self.image_size = height if height == width else [height, width]
        self.classes = tuple(parts["train"].classes)

    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are."""
        return tuple(split for split in PARTS if split in self.parts or split in self.fractions)

    def rows(self, split: str) -> Rows:
        """The rows of a split; those of "pretrain" are those of train.

        Raises:
            DataError: there is no such split, or it cannot be carved.
        """
        split = "train" if split == "pretrain" else split
        if split not in self.splits():
            raise DataError(f"{self.name} has no {split} split, only {', '.join(self.splits())}")
        if not self.fractions or (split in self.parts and split != "train"):
            return self.parts[split]
        return Subset(self.parts["train"], self._carved[split])

    def labelled(self, split: str) -> Rows:
        """`rows(split)` for code that cannot do without labels.

        Raises:
            DataError: the images have none, or classes that are not those of train.
        """
        found = self.rows(split)
        if found.y is None:
            raise DataError(f"{self.name}: the images of {split!r} have no labels; a measure needs them")
        if self.classes and (most := int(found.y.max(initial=-1))) >= len(self.classes):
            raise DataError(
                f"{self.name}: {split} has the class {most}, counted from 0, and train has "
                f"{len(self.classes)} classes"
            )
        theirs = tuple(found.classes)
        if theirs != self.classes and set(theirs) == set(self.classes):
            raise DataError(
                f"{self.name}: {split} has the classes {', '.join(theirs)} and train the same in another "
                f"order, {', '.join(self.classes)}: number them alike"
            )
        return found

    @cached_property
    def _carved(self) -> dict[str, np.ndarray]:
        train = self.parts["train"]
        y = np.zeros(len(train), np.int64) if train.y is None else train.y
        return carve_parts(y, self.fractions, 0, self.classes or ("(unlabelled)",))
