"""Image data: labelled splits over sources, read as raw uint8 batches.

Splits that no source gives are carved from the training images, class by class, by a seed alone: the
same images on every machine.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ssl_zoo.backbones._base import Modality
from ssl_zoo.data.cache import root as cache_root
from ssl_zoo.data.image_classes import read_names
from ssl_zoo.data.image_decoding import MAX_PIXELS
from ssl_zoo.data.image_encoded import EncodedRows
from ssl_zoo.data.image_listing import Listing, count_shared
from ssl_zoo.data.image_samples import Source
from ssl_zoo.data.image_sources import resolve
from ssl_zoo.data.image_store import Decoding, ImageRows, Store, open_store
from ssl_zoo.data.rows import DataError, left_out
from ssl_zoo.data.split_files import Assigned, Given, dealt, read_assigned, refuse_both
from ssl_zoo.data.split_names import PARTS
from ssl_zoo.data.splits import carve_parts
from ssl_zoo.messages import note


class ImageData:
    """Images for pretraining and transfer. Building it reads nothing; `rows` does, once per source.

    Args:
        name: what logs and errors call it.
        train, validation, test: sources, or strings that name them (see `image_sources`); the last two are
            carved from `train` where they are None and their fraction is above 0.
        unlabelled: images for pretraining instead of `train`; labels they may have are not read.
        image_size: pixels a side of every image in the store.
        splits: a file that says which images of `train` are of which split (see `split_files`); nothing is
            carved by chance then.
        validation_fraction, test_fraction: of the images of `train`.
        split_seed: decides what is carved.
        unpack: decode every image once into a store, from which reading costs next to nothing; else each is
            decoded each time it is read, for sources that the disk has no room to unpack.
        fast_resize: with unpack=false, resize by torch, which gives nearly the pixels of a store (see
            `decode_fast`) in two thirds of the time.
        on_bad_sample: "raise" stops at a damaged image; "skip" leaves up to 1 % of a source out, which
            must be unpacked then.
        max_pixels: an image with more is refused before it is decoded.
        cache: folder of the stores; else the environment's SSL_ZOO_CACHE, else ~/.cache/ssl_zoo.
        classes: a text file, line i (from 0) naming class i; else the source names them.
        image, label: columns of sources that are tables, by name or by number from 0; None = a usual name.

    Raises:
        DataError: an argument is out of range, or `train` names nothing. `rows` raises more, later.
    """

    modality: ClassVar[Modality] = "image"

    def __init__(
        self,
        name: str,
        train: str | Source,
        validation: str | Source | None = None,
        test: str | Source | None = None,
        *,
        unlabelled: str | Source | None = None,
        image_size: int,
        splits: Given | None = None,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        unpack: bool = True,
        fast_resize: bool = False,
        on_bad_sample: Literal["raise", "skip"] = "raise",
        max_pixels: int = MAX_PIXELS,
        cache: str | None = None,
        classes: str | None = None,
        image: int | str | None = None,
        label: int | str | None = None,
    ):
        if not all(type(number) is int and number > 0 for number in (image_size, max_pixels)):
            raise DataError(
                f"{name}: image_size ({image_size!r}) and max_pixels ({max_pixels!r}) must be whole numbers "
                "above 0"
            )
        if on_bad_sample not in ("raise", "skip"):
            raise DataError(f"{name}: on_bad_sample is 'raise' or 'skip', not {on_bad_sample!r}")
        if on_bad_sample == "skip" and not unpack:
            raise DataError(
                f"{name}: on_bad_sample=skip needs to know the damaged images beforehand, and only unpacking "
                "tells: set on_bad_sample=raise, or unpack=true"
            )
        if fast_resize and unpack:
            raise DataError(
                f"{name}: fast_resize=true is for images that are decoded whenever they are read, and a "
                "store is made once: set unpack=false, or leave it out"
            )
        if not train:
            raise DataError(f"{name}: train names no images: give a folder, shards or the name of a data set")
        refuse_both(name, splits, validation, test)
        fractions = {
            "validation": 0.0 if validation or splits else validation_fraction,
            "test": 0.0 if test or splits else test_fraction,
        }
        possible = all(share >= 0 for share in (validation_fraction, test_fraction))
        if not (possible and sum(fractions.values()) < 1):  # NaN is neither
            raise DataError(
                f"{name}: validation_fraction ({validation_fraction}) and test_fraction ({test_fraction}) "
                "must be 0 or more and leave something of train"
            )
        self.name, self.image_size, self.split_seed = name, image_size, split_seed
        self.sources = {"train": train, "validation": validation, "test": test}
        self.unlabelled, self.classes_file, self.splits_file = unlabelled, classes, splits
        self.columns = (image, label)
        self.fractions = fractions
        self.decoding = Decoding(image_size, on_bad_sample, max_pixels)
        self.unpack, self.fast_resize = unpack, fast_resize
        self.cache = cache_root(cache)
        self._stores: dict[str, Store | Listing] = {}
        # Of each split that was read: the store, and which of its images, (N,) int64.
        self._read: dict[str, tuple[Store | Listing, np.ndarray]] = {}

    def splits(self) -> tuple[str, ...]:
        """Which of train, validation and test there are. "pretrain" can be read besides."""
        named = () if self._assigned is None else self._assigned.parts
        return tuple(s for s in PARTS if self.sources[s] or self.fractions.get(s) or s in named)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, "0", "1", ... where nothing names them; () for unlabelled images."""
        store = self._store(self.sources["train"])
        count = int(store.labels.max()) + 1
        if not count:
            return ()
        names = store.classes or tuple(map(str, range(count)))
        if len(names) < count:
            raise DataError(
                f"{self.name}: {store.spec!r} names {len(names)} classes, and has class {count - 1}"
            )
        if self.classes_file is None:
            return names
        path = Path(self.classes_file).expanduser()
        named = read_names(path)
        if len(named) < count or (store.classes and len(named) != len(store.classes)):
            raise DataError(
                f"{self.name}: {path} names {len(named)} classes, and the images have {len(names)}"
            )
        return named

    def rows(self, split: str) -> ImageRows | EncodedRows:
        """The rows of "train", "validation", "test" or "pretrain" (`unlabelled` if given, else train).

        Raises:
            DataError: no such split, nothing at the source's path, a damaged image, labels on some
                images only, a class that train does not have, or one too small to carve from.
        """
        if split == "pretrain" and self.unlabelled:
            store = self._store(self.unlabelled)
            return self._rows(split, store, np.arange(len(store.labels)), None)
        split = "train" if split == "pretrain" else split
        if split not in self.splits():
            raise DataError(
                f"{self.name} has no {split!r} split, only {', '.join(self.splits())}"
                + (f": give {split}=SOURCE or {split}_fraction above 0" if split in PARTS else "")
            )
        store = self._store(self.sources[split] or self.sources["train"])
        y = self._labels(store)
        if self.sources[split] and split != "train":
            index = np.arange(len(store.labels))
        else:
            index = self._carved[split]
            for part in self.splits():
                if part == "train" or not self.sources[part]:
                    self._say_what_is_shared(part, store, self._carved[part])
        return self._rows(split, store, index, None if y is None else y[index])

    def labelled(self, split: str) -> ImageRows | EncodedRows:
        """`rows(split)` for code that cannot do without labels.

        Raises:
            DataError: the images of the split have none.
        """
        rows = self.rows(split)
        if rows.y is None:
            raise DataError(
                f"{self.name}: the images of {split!r} have no labels; pretraining needs none, but "
                "probes and fine-tuning do: give class folders (the folder above, if this is one of them) or "
                "shards with .cls files"
            )
        return rows

    def _store(self, given: str | Source | None) -> Store | Listing:
        assert given
        spec = given if isinstance(given, str) else given.spec
        if spec not in self._stores:
            source = resolve(given, self.cache, *self.columns) if isinstance(given, str) else given
            if self.unpack:
                self._stores[spec] = open_store(source, self.decoding, self.cache)
            elif source.list is None:
                raise DataError(f"{self.name}: {spec!r} cannot be read image by image: set unpack=true")
            else:
                self._stores[spec] = listing = source.list()
                left_out(spec, {**source.left, **listing.left})
        return self._stores[spec]

    def _rows(
        self, split: str, store: Store | Listing, index: np.ndarray, y: np.ndarray | None
    ) -> ImageRows | EncodedRows:
        self._say_what_is_shared(split, store, index)
        classes = () if y is None else self.classes
        if isinstance(store, Store):
            return ImageRows(store.images, index, y, classes, store.content)
        limit = self.decoding.max_pixels
        return EncodedRows(store, self.image_size, limit, index, y, classes, self.fast_resize)

    def _say_what_is_shared(self, split: str, store: Store | Listing, index: np.ndarray) -> None:
        """Say how many images two splits have in common, once both were read. Pretraining may see train."""
        if split in self._read:
            return
        for other, (their_store, theirs) in self._read.items():
            if {split, other} == {"train", "pretrain"}:
                continue
            if isinstance(store, Store) and isinstance(their_store, Store):
                count = int(np.isin(store.digests[index], their_store.digests[theirs]).sum())
            else:
                assert isinstance(store, Listing)
                assert isinstance(their_store, Listing)
                count = count_shared(store, index, their_store, theirs)
            if count is None:
                said = (
                    f"whether images of {split!r} are also in {other!r} is not known; unpack=true finds out"
                )
            else:
                said = f"{count} of the {len(index)} images of {split!r} are also in {other!r}"
            if count != 0:
                note(f"{self.name}: {said}")
        self._read[split] = (store, index)

    @cached_property
    def _assigned(self) -> Assigned | None:
        return None if self.splits_file is None else read_assigned(self.splits_file, self.sources["train"])

    @cached_property
    def _carved(self) -> dict[str, np.ndarray]:
        if self._assigned is not None:
            return dealt(self._assigned, self._file_names)
        y = self._labels(self._store(self.sources["train"]))
        y = np.zeros(len(self._store(self.sources["train"]).labels), np.int64) if y is None else y
        return carve_parts(y, self.fractions, self.split_seed, self.classes or ("(unlabelled)",))

    @property
    def _file_names(self) -> list[str]:
        """The names of the images of train, in the order of its store."""
        train = self.sources["train"]
        store = self._store(train)
        listing = store if isinstance(store, Listing) else None
        if listing is None:
            assert train
            source = resolve(train, self.cache, *self.columns) if isinstance(train, str) else train
            if source.list is None:
                raise DataError(f"{self.name}: splits can name none of the images of {source.spec!r}")
            listing = source.list()
        count = len(store.labels)
        if len(listing.labels) != count:
            raise DataError(
                f"{self.name}: {len(listing.labels) - count} of the images are damaged and left out, and "
                "splits needs all of them: take these away, or set unpack=false"
            )
        return [listing.images.name(i) for i in range(count)]

    def _labels(self, store: Store | Listing) -> np.ndarray | None:
        """(N,) int64 labels of a store as indices into `classes`; None where it has none."""
        missing = int((store.labels < 0).sum())
        if missing == len(store.labels):
            return None
        if missing:
            raise DataError(
                f"{self.name}: {missing} of the {len(store.labels)} images of {store.spec!r} have no label: "
                "label all or none, or give them as `unlabelled`"
            )
        if store.classes and store.labels.max() >= len(store.classes):
            raise DataError(
                f"{self.name}: {store.spec!r} names {len(store.classes)} classes, and has class "
                f"{store.labels.max()}, counted from 0"
            )
        anchor = self._store(self.sources["train"]).classes
        if set(self.classes) == set(anchor):
            anchor = self.classes  # a file of the same names in another order has the last word
        if store.classes and anchor:
            if strange := sorted(set(store.classes) - set(anchor)):
                raise DataError(f"{self.name}: train has no such classes as {strange} of {store.spec!r}")
            # Folders are numbered by what is there; a split that lacks a class would shift the others.
            return np.array([anchor.index(name) for name in store.classes], np.int64)[store.labels]
        if store.labels.max() >= len(self.classes):
            raise DataError(
                f"{self.name}: {store.spec!r} has class {store.labels.max()}, but there are only "
                f"{len(self.classes)} classes, counted from 0"
            )
        return store.labels
