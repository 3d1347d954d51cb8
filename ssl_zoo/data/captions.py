"""Captions of images, out of the names of their classes.

A labelled set whose classes have names has captions already: each name, in each of a few templates. Which of
an image's captions is read is drawn anew in each epoch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ssl_zoo.backbones._base import Modality
from ssl_zoo.data.pairs import DrawnRows, PairRows
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.data.tokenizer import Tokenizer

# {} is the name of a class. Training draws one of them; zero-shot classification takes the mean of all, which
# is worth some points over one alone (Radford et al. 2021, section 3.1.4).
TEMPLATES = (
    "a photo of a {}.",
    "a picture of one {}.",
    "a small photo of the {}.",
    "an image that shows a {}.",
    "this is a {}.",
    "the {}, seen from some way off.",
    "{}",
)


class Captioned(Protocol):
    """A data set of images with captions."""

    name: str
    modality: Modality

    def splits(self) -> tuple[str, ...]: ...

    def captions(self, split: str) -> list[str]:
        """All captions of a split, in no order that means anything: what a tokenizer learns from."""
        ...

    def pairs(self, split: str, tokenizer: Tokenizer, length: int, seed: int = 0) -> PairRows:
        """The images of a split with a caption each, of at most `length` ids, drawn by `seed`."""
        ...


class Labelled(Protocol):
    """A data set of images, of which those with labels have `classes`."""

    name: str

    @property
    def classes(self) -> tuple[str, ...]: ...

    def splits(self) -> tuple[str, ...]: ...

    def labelled(self, split: str) -> Rows: ...


class ClassCaptions:
    """A labelled set of images, captioned by the names of its classes (see `Captioned`).

    Args:
        data: the images.
        templates: texts with {} where the name goes.

    Raises:
        DataError: images without labels, no template, or one without exactly one {}.
    """

    modality: Modality = "image"

    def __init__(self, data: Labelled, templates: Sequence[str] = TEMPLATES):
        self.data, self.name, self.templates = data, data.name, tuple(templates)
        self._texts = [text for name in named(data) for text in filled(name, self.templates)]

    def splits(self) -> tuple[str, ...]:
        return self.data.splits()

    def captions(self, split: str) -> list[str]:
        return self._texts

    def pairs(self, split: str, tokenizer: Tokenizer, length: int, seed: int = 0) -> PairRows:
        images = self.data.labelled(split)
        assert images.y is not None
        count = len(self.templates)
        texts = DocumentRows(self._texts, tokenizer, length)
        drawn = DrawnRows(texts, images.y * count, np.full(len(images), count), seed)
        return PairRows(images, drawn)


def named(data: Labelled) -> tuple[str, ...]:
    """The names of its classes.

    Raises:
        DataError: there are none.
    """
    if not data.classes:
        raise DataError(
            f"{data.name} has no labels, so there are no class names to make captions of: give images in "
            "class folders, or a table of images and captions (data=image_captions)"
        )
    return data.classes


def filled(name: str, templates: Sequence[str]) -> list[str]:
    """The captions of a class: its name as words ("SeaLake" and "sea_lake" are "sea lake") in each template.

    Raises:
        DataError: no template, or one without exactly one {}.
    """
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise DataError(f"a template is a text with one {{}}, where the class name goes: {list(templates)}")
    words = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower().split())
    return [template.replace("{}", words) for template in templates]


def captioned(data: object, templates: Sequence[str] | None = None) -> Captioned:
    """The data as images with captions: its own, else its class names in templates.

    Raises:
        DataError: it holds no images, or has neither captions nor class names; or templates are given for
            images that have captions.
    """
    name = getattr(data, "name", data)
    if hasattr(data, "pairs") and hasattr(data, "captions"):
        if templates is not None:
            raise DataError(f"{name} has captions of its own: leave templates= out")
        return data  # pyright: ignore[reportReturnType]
    if not hasattr(data, "labelled"):
        raise DataError(
            f"{name} holds no images with captions: take labelled images (data=cifar10, ...), or a table of "
            "images and captions (data=image_captions)"
        )
    return ClassCaptions(data, TEMPLATES if templates is None else templates)  # pyright: ignore[reportArgumentType]
