"""What is exported, and what a door does: it writes a folder, and opens it with the peer's own loader.

A folder is shipped only if what the peer reads with it is what this library reads (see `doors.export`).
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_zoo.backbones._base import Backbone, ImageBackbone
from ssl_zoo.data.tokenizer import Tokenizer

KEY = "ssl_zoo"  # under which the receipt stands in the metadata of safetensors and of ONNX
MODEL = "ssl_zoo_model"  # under which a classifier's facts stand, which has no receipt


class ExportError(ValueError):
    """A backbone cannot be exported so; says why, and what would work."""


class Head(NamedTuple):
    """What names classes on the pooled features of a backbone.

    Attributes:
        layer: (D -> C), on the CPU, in evaluation mode.
        classes: C names.
        about: how it was made and what it scored, plain JSON values (see `transfer.kept`).
    """

    layer: nn.Linear
    classes: tuple[str, ...]
    about: dict[str, Any]


class Source(NamedTuple):
    """What is exported.

    Attributes:
        backbone: on the CPU, in evaluation mode.
        receipt: where it comes from (see `receipt`), plain JSON values; {} for a classifier.
        tokenizer: of a text backbone, else None.
        context: tokens that a text is cut to, prefix and suffix included; None for images.
        head: of a classifier; None for a backbone alone.
    """

    backbone: Backbone
    receipt: dict[str, Any]
    tokenizer: Tokenizer | None = None
    context: int | None = None
    head: Head | None = None

    @property
    def title(self) -> str:
        """The class of the backbone."""
        return type(self.backbone).__name__

    def facts(self) -> dict[str, Any]:
        """What is known of the classifier; {} for a backbone alone."""
        return {} if self.head is None else self.head.about

    def words(self) -> tuple[Tokenizer, int]:
        """The tokenizer, and the most tokens of a text.

        Raises:
            ExportError: the backbone reads images, or there is no tokenizer.
        """
        if self.tokenizer is None or self.context is None:
            raise ExportError(f"{self.title} comes without a tokenizer: name the run that it is of")
        return self.tokenizer, self.context

    def pictures(self) -> ImageBackbone:
        """The backbone, which reads images.

        Raises:
            ExportError: it reads texts.
        """
        if not isinstance(self.backbone, ImageBackbone):
            raise ExportError(f"{self.title} reads texts, not images")
        return self.backbone


# What a peer gives for rows: images (B, C, H, W) in [0, 1] or texts -> (B, D), beside `Features.pooled`, or
# (B, C), beside the probabilities of a classifier.
Reader = Callable[[Any], Tensor]


class Door(ABC):
    """One way out.

    Attributes:
        name: what `to` is called.
        library: what the Hugging Face hub calls the peer; None: it knows none.
        tolerance: the largest difference of features that is taken, in units of the largest feature or of 1.
    """

    name: ClassVar[str]
    library: ClassVar[str | None] = None
    tolerance: ClassVar[float] = 1e-5

    @abstractmethod
    def write(self, source: Source, folder: Path) -> None:
        """Fill an empty folder.

        Raises:
            ExportError: the backbone cannot be said in the words of the peer; says what would work.
        """

    @abstractmethod
    def open(self, source: Source, folder: Path) -> Reader:
        """The folder as the peer opens it, without looking at the backbone."""

    @abstractmethod
    def lines(self, source: Source, folder: Path) -> str:
        """Python that opens the folder and reads features; it can be pasted."""

    @abstractmethod
    def notes(self, source: Source) -> Sequence[str]:
        """Sentences for the card: what is in the folder, and how rows are prepared."""


def spelt(path: Path | str) -> str:
    """A path as Python spells it, in double quotes."""
    return json.dumps(str(path), ensure_ascii=False)


def carried(source: Source) -> dict[str, str]:
    """What the metadata of a file say: the receipt, or what a classifier is."""
    if source.head is None:
        return {KEY: json.dumps(source.receipt)}
    return {MODEL: json.dumps({"classes": source.head.classes, **source.head.about})}


def metadata(source: Source) -> dict[str, str]:
    """The metadata of a safetensors file."""
    return {"format": "pt", **carried(source)}


def write_weights(state: dict[str, Tensor], source: Source, file: Path) -> None:
    """Write weights as safetensors, with the receipt; anybody may read the file who may read its folder."""
    whole = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    save_file(whole, file, metadata(source))
    about = file.with_name("config.json")
    if about.exists():  # safetensors makes files that only their owner may read
        shutil.copymode(about, file)


def write_json(about: dict[str, Any] | list[str], file: Path) -> None:
    """Write plain values as JSON."""
    file.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
