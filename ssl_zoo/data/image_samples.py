"""What a source of images is: a stream of samples, and where each image lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ssl_zoo.data.image_listing import Listing
from ssl_zoo.data.rows import NOTHING


class Sample(NamedTuple):
    """name: how errors call it. image: encoded, or where, or decoded. label: -1 = unlabelled."""

    name: str
    image: bytes | Path | Image.Image
    label: int


class Samples(NamedTuple):
    """stream: in a fixed order. classes: () where the source names none. total: how many, if known. left:
    what was left out, how often; it is complete once the stream has ended."""

    stream: Iterator[Sample]
    classes: tuple[str, ...] = ()
    total: int | None = None
    left: Mapping[str, int] = NOTHING


@dataclass(frozen=True)
class Source:
    """spec: the string. identity: names, sizes and times of the files; for torchvision and the Hugging Face
    hub the string alone. open: starts reading images of no more than so many pixels. list: says where each
    image lies, for reading them one by one; None where that cannot be done. count: how many, if known. left:
    what of a folder or of several shards was left out, how often."""

    spec: str
    identity: tuple[object, ...]
    open: Callable[[int], Samples]
    list: Callable[[], Listing] | None = None
    count: int | None = None
    left: Mapping[str, int] = field(default_factory=dict)
