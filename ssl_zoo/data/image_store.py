"""The image store: a source, decoded once into one memory-mapped uint8 array (N, 3, H, W).

    <cache>/images/<key>/{images.npy, labels.npy, meta.json}

The key follows from the source's names, sizes and times, and from how it is decoded; so an edited
source is built anew. The store is whole or absent, and checked when it is opened (see cache.py). Memory
stays flat, however many images there are.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from ssl_zoo.data import cache
from ssl_zoo.data.image_decoding import POLICY, decode
from ssl_zoo.data.image_sources import Sample, Samples, Source
from ssl_zoo.data.rows import DataError

CHUNK = 64  # images that a thread decodes at a time


@dataclass(frozen=True)
class Decoding:
    """image_size: pixels a side. on_bad_sample: what a damaged image does. max_pixels: none may have more."""

    image_size: int
    on_bad_sample: Literal["raise", "skip"]
    max_pixels: int


class Store(NamedTuple):
    """images: where the array lies. labels: (N,) int64, -1 = unlabelled. classes: () where the source
    names none. content: digest of all pixels and labels, the same on every machine."""

    spec: str
    images: Path
    labels: np.ndarray
    classes: tuple[str, ...]
    content: str


def open_store(source: Source, decoding: Decoding, folder: Path) -> Store:
    """The store of a source in the cache `folder`, built now where it is not there yet or damaged.

    Raises:
        DataError: an image is damaged (or, with "skip", more than 1 % are), or there is none.
    """
    described = repr((source.identity, asdict(decoding), POLICY)).encode(errors="surrogateescape")
    place = folder / "images" / hashlib.blake2b(described, digest_size=12).hexdigest()
    needed = (source.count or 0) * 3 * decoding.image_size**2
    title = f"{source.spec} at {decoding.image_size} pixels a side"
    cache.store(place, title, partial(_build, source, decoding), needed)
    meta = json.loads((place / "meta.json").read_text())
    labels = np.load(place / "labels.npy")
    return Store(source.spec, place / "images.npy", labels, tuple(meta["classes"]), meta["content"])


def _build(source: Source, decoding: Decoding, folder: Path) -> None:
    start = time.monotonic()
    count, skipped = _write(source, source.open(), decoding, folder)
    note = f", {skipped} damaged ones skipped" if skipped else ""
    print(f"{source.spec}: {count:,} images in {time.monotonic() - start:.1f} s{note}", file=sys.stderr)


def _write(source: Source, samples: Samples, decoding: Decoding, folder: Path) -> tuple[int, int]:
    """Decode a source into `folder`; returns how many images were written, and how many skipped."""
    labels, content = array("q"), hashlib.blake2b(digest_size=16)
    bad: list[str] = []
    read = partial(_read, decoding=decoding)
    chunks = iter(lambda: list(itertools.islice(samples.stream, CHUNK)), [])
    threads = min(8, os.cpu_count() or 1)  # Pillow decodes without holding Python's lock
    with (
        open(folder / "images.npy", "wb") as file,
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=samples.total, unit=" images", desc=source.spec, disable=None) as bar,
    ):
        _header(file, 0, decoding.image_size)
        for good, images, errors in _in_order(pool, read, chunks, ahead=2 * threads):
            bad += errors
            if errors and decoding.on_bad_sample == "raise":
                raise DataError(f"{errors[0]} (on_bad_sample=skip leaves such images out)")
            pixels = images.tobytes()
            file.write(pixels)
            content.update(pixels)
            labels.extend(good)
            bar.update(len(good) + len(errors))
        total = len(labels) + len(bad)
        if not total:
            raise DataError(f"{source.spec!r} holds no images")
        if len(bad) > 0.01 * total:
            raise DataError(
                f"{len(bad)} of the {total} images of {source.spec!r} are damaged, more than the 1 % that "
                f"on_bad_sample=skip bears; the first is {bad[0]}"
            )
        _header(file, len(labels), decoding.image_size)
    array_of_labels = np.array(labels, dtype="<i8")
    content.update(array_of_labels.tobytes())
    meta = {
        "source": source.spec,
        "classes": samples.classes,
        "content": content.hexdigest(),
        "skipped": bad,
        "policy": POLICY,
        **asdict(decoding),
    }
    np.save(folder / "labels.npy", array_of_labels)
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))
    return len(labels), len(bad)


class Chunk(NamedTuple):
    """labels and images (n, 3, size, size) of the good samples, and what ails the others."""

    labels: list[int]
    images: np.ndarray
    errors: list[str]


def _read(samples: list[Sample], decoding: Decoding) -> Chunk:
    labels, images, errors, size = [], [], [], decoding.image_size
    for sample in samples:
        try:
            images.append(decode(sample.image, size, decoding.max_pixels))
            labels.append(sample.label)
        except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error, ...
            errors.append(f"{sample.name}: {error}")
    return Chunk(labels, np.array(images, dtype=np.uint8).reshape(-1, 3, size, size), errors)


def _in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[list[Sample]], Chunk],
    items: Iterable[list[Sample]],
    ahead: int,
) -> Iterator[Chunk]:
    """`pool.map` that reads no more than `ahead` items in advance."""
    pending = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _header(file: BinaryIO, count: int, size: int) -> None:
    """(Re)write the start of a .npy file. NumPy pads it so that a first axis can grow in place."""
    file.seek(0)
    shape = (count, 3, size, size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
