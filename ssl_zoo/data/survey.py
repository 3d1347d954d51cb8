"""What lies in a data set, looked at before anything is trained: sizes, kinds, classes, copies, damage.

At most `limit` samples of a split are opened, drawn by seed 0; the survey says of how many.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image

from ssl_zoo.data.image_decoding import MAX_PIXELS, decode
from ssl_zoo.data.image_encoded import EncodedRows
from ssl_zoo.data.rows import Rows
from ssl_zoo.data.text_streams import Texts
from ssl_zoo.data.tokenizer import Tokenizer

SIDE = 96  # pixels of a thumbnail
SHOWN = 6  # samples of a class that a page shows


class Shown(NamedTuple):
    """A sample for people: an image (3, SIDE, SIDE) uint8, or the text."""

    name: str
    label: str
    what: np.ndarray | str


@dataclass
class Split:
    """What a split holds.

    Attributes:
        count: samples in it. opened: those that were looked at.
        classes: how many samples each class has, by name; empty without labels.
        sizes: of each that was opened: width and height of an image, or characters and bytes of a text.
        tokens: of each text that was opened, where a tokenizer was given.
        modes, formats: of images, such as RGB and JPEG, and how many are so.
        damaged: what is wrong with each image that cannot be read.
        digests: of what each holds -> the names of those that hold it.
        shown: a few samples of each class.
    """

    count: int = 0
    opened: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    digests: dict[bytes, list[str]] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)

    def take(self, name: str, label: str, content: bytes, what: np.ndarray | str) -> None:
        """Note a sample that was opened."""
        self.opened += 1
        self.digests.setdefault(hashlib.blake2b(content, digest_size=12).digest(), []).append(name)
        if sum(one.label == label for one in self.shown) < SHOWN:
            self.shown.append(Shown(name, label, what))

    def copies(self) -> list[list[str]]:
        """The names of samples that hold the same, a list for each content that lies here twice or more."""
        return [names for names in self.digests.values() if len(names) > 1]


def shared(splits: Mapping[str, Split]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Two splits, and the pairs of names that hold the same, for all splits that have some in common."""
    found, names = [], list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            ours, theirs = splits[first].digests, splits[second].digests
            if pairs := [
                (ours[one][0], name) for one, some in theirs.items() if one in ours for name in some
            ]:
                found.append((first, second, pairs))
    return found


def survey_images(rows: Rows, limit: int | None) -> Split:
    """Look at the images of a split. Those that lie decoded in a store are all of one size and kind."""
    found = Split(len(rows))
    names = rows.classes
    if rows.y is not None:
        counts = np.bincount(rows.y, minlength=len(names)).tolist()
        found.classes = Counter(dict(zip(names, counts, strict=True)))
    index = drawn(len(rows), limit)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for i, one in zip(index, pool.map(lambda i: looked_at(rows, i), index), strict=True):
            if isinstance(one, str):
                found.damaged.append(one)
                continue
            name, content, size, mode, kind, thumbnail = one
            label = "" if rows.y is None else names[rows.y[i]]
            found.sizes.append(size)
            found.modes[mode] += 1
            found.formats[kind] += 1
            found.take(name, label, content, thumbnail)
    return found


class Looked(NamedTuple):
    """An image: its name, its bytes, (width, height), Pillow's mode and format, and (3, SIDE, SIDE) uint8."""

    name: str
    content: bytes
    size: tuple[int, int]
    mode: str
    kind: str
    thumbnail: np.ndarray


def looked_at(rows: Rows, i: int) -> Looked | str:
    """Row i of images; or what is wrong with it."""
    if not isinstance(rows, EncodedRows):
        pixels = rows.read(np.array([i])).x[0].numpy()
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        return Looked(f"row {i}", pixels.tobytes(), image.size, "RGB", "decoded", decode(image, SIDE))
    name = rows.name(i)
    try:
        content = rows.images.read(int(rows.index[i]), MAX_PIXELS)
        thumbnail = decode(content, SIDE)  # all of it, which finds what is cut off
        with Image.open(io.BytesIO(content)) as image:
            return Looked(name, content, image.size, image.mode, image.format or "", thumbnail)
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error, ...
        return f"{name}: {error}"


def drawn(count: int, limit: int | None) -> list[int]:
    """Ascending numbers of at most `limit` of `count` samples, drawn by seed 0."""
    if limit is None or count <= limit:
        return list(range(count))
    return np.sort(np.random.default_rng(0).permutation(count)[:limit]).tolist()


def survey_texts(data: Texts, split: str, limit: int | None, tokenizer: Tokenizer | None) -> Split:
    """Look at the texts of a split; all are read, and at most `limit` become tokens."""
    found, some = Split(), []
    for sample in data.samples(split):
        found.count += 1
        label = data.name_of(sample.label)
        if label is not None:
            found.classes[label] += 1
        content = sample.text.encode()
        found.sizes.append((len(sample.text), len(content)))
        name = sample.file if sample.row is None else f"{sample.file} row {sample.row}".strip()
        found.take(name, label or "", content, sample.text[:400])
        if tokenizer is not None and (limit is None or len(some) < limit):
            some.append(sample.text)
    if tokenizer is not None:
        ends = len(tokenizer.prefix) + len(tokenizer.suffix)
        found.tokens = [len(ids) + ends for ids in tokenizer.encode(some)]
    return found


def spread(values: Iterable[int]) -> str:
    """The smallest, the middle and the largest of some whole numbers, for people."""
    low, middle, high = np.percentile(list(values), [0, 50, 100]).tolist()
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f} (median {middle:,.0f})"


def commonest(counts: Mapping[str, int], most: int = 8) -> str:
    """Names and how often, the commonest first."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{name} {count:,}" for name, count in ranked[:most]]
    return ", ".join(shown) + (f" and {len(ranked) - most:,} more" if len(ranked) > most else "")


def lines(split: Split, texts: bool, length: int | None) -> Sequence[str]:
    """What a split holds, in sentences for people.

    Args:
        texts: whether it holds texts.
        length: tokens that a text would be cut to, where it became tokens.
    """
    unit = "texts" if texts else "images"
    told = [
        f"{split.count:,} {unit}" + (f", {len(split.classes)} classes" if split.classes else ", no labels")
    ]
    if split.classes:
        told[0] += f": {commonest(split.classes)}"
        most, least = max(split.classes.values()), min(split.classes.values())
        if most > 10 * max(least, 1):
            told.append(f"WARNING: the largest class has {most:,} and the smallest {least:,}")
    if not texts and split.opened + len(split.damaged) < split.count:
        told.append(f"opened {split.opened + len(split.damaged):,} of them (limit=)")
    if split.sizes and not texts:
        wide, high = zip(*split.sizes, strict=True)
        same = len(set(split.sizes)) == 1
        told.append(
            f"all of {wide[0]}x{high[0]} pixels" if same else f"widths {spread(wide)}; heights {spread(high)}"
        )
        told.append(f"{commonest(split.modes)}; {commonest(split.formats)}")
    elif split.sizes:
        characters, in_bytes = zip(*split.sizes, strict=True)
        told.append(f"{sum(in_bytes):,} bytes; characters of a text: {spread(characters)}")
    if split.tokens:
        told.append(f"tokens of a text: {spread(split.tokens)}")
        if length is not None and (cut := sum(count > length for count in split.tokens)):
            told[-1] += f"; {cut:,} of {len(split.tokens):,} would be cut to {length}"
    if split.damaged:
        more = f"; and {len(split.damaged) - 3:,} more" if len(split.damaged) > 3 else ""
        told.append(f"WARNING: {len(split.damaged):,} cannot be read: {'; '.join(split.damaged[:3])}{more}")
    if again := split.copies():
        extra = sum(len(names) - 1 for names in again)
        what = "is a copy of another" if extra == 1 else "are copies of others"
        told.append(f"WARNING: {extra:,} {what}, such as {again[0][1]} of {again[0][0]}")
    return told
