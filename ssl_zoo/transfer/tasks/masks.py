"""A class for each pixel: a head on the patch tokens of an image, or on the cells of a CNN's last map.

Its scores of the cells are upsampled bilinearly, to the size of the image where they are told and scored. The
frozen probe is fitted on cells, each of which has the class of most of its pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_zoo.backbones._base import Backbone, Features, ImageBackbone
from ssl_zoo.data.items import Item
from ssl_zoo.data.masks import numbers_in, palette_of, size_of
from ssl_zoo.data.rows import DataError
from ssl_zoo.transfer.tasks.goal import (
    DRAWS,
    IGNORED,
    Examples,
    Goal,
    Score,
    listed,
    ratio,
    resampled,
    softmax_path,
)
from ssl_zoo.transfer.tasks.names import read_names
from ssl_zoo.untrusted import Untrusted

Head = Literal["linear", "conv"]
HIDDEN = 64  # channels within the conv head


class Segmented(NamedTuple):
    """mask: the class number of each pixel, (H, W) uint8, as in the masks of train. shares: of each class, by
    name."""

    file: str
    row: int | None
    mask: np.ndarray
    shares: dict[str, float]

    def text(self) -> str:
        """A line for people."""
        most = sorted(self.shares.items(), key=lambda one: -one[1])[:4]
        return ", ".join(f"{name} {100 * share:.0f} %" for name, share in most if share > 0)


class Conv(nn.Module):
    """Two convolutions on the cells, the second of one cell: (B, h * w, D) -> (B, h * w, C)."""

    def __init__(self, dim: int, classes: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(dim, HIDDEN, 3, padding=1)
            self.last = nn.Conv2d(HIDDEN, classes, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        made = self.last(F.gelu(self.first(as_map(x, self.grid))))
        return made.flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class Masks(Goal):
    """Which class each pixel is of.

    Attributes:
        numbers: of the classes in masks, ascending.
        grid: rows and columns of the cells of an image.
        palette: the colours of masks, three numbers each; () for grey values.
        kind: of the head.
    """

    task: ClassVar[str] = "masks"
    numbers: tuple[int, ...]
    grid: tuple[int, int]
    palette: tuple[int, ...] = ()
    kind: Head = "linear"
    metric: str = "mean IoU"

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.numbers)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, which are their numbers."""
        return tuple(map(str, self.numbers))

    @property
    def number(self) -> dict[int, int]:
        """From the number of a class in masks to its place among the classes."""
        return {value: i for i, value in enumerate(self.numbers)}

    @classmethod
    def learnt(cls, train: Sequence[Item], grid: tuple[int, int], kind: Head) -> Masks:
        """The classes of the train masks. Raises DataError where there is one alone."""
        found = sorted(set().union(*(numbers_in(item.target) for item in train)))
        if len(found) < 2:
            raise DataError(
                f"the {len(train)} train masks hold no class but {', '.join(map(str, found)) or 'unknown'}: "
                "there is nothing to tell"
            )
        return cls(tuple(found), grid, tuple(palette_of(train[0].target)), kind)

    def refuse_unseen(self, items: Sequence[Item]) -> None:
        """Raise DataError for a mask with a class that no train mask has."""
        for item in items:
            if new := numbers_in(item.target) - set(self.numbers):
                raise DataError(
                    f"{item.target} has pixels of class {min(new)}, which no train mask has "
                    f"({', '.join(self.classes)}): leave such masks out, or give train masks of it"
                )

    def points(self, found: Features) -> Tensor:
        return found.tokens

    def head(self, backbone: Backbone) -> nn.Module:
        return Conv(backbone.dim, self.width, self.grid) if self.kind == "conv" else super().head(backbone)

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        if not (y != IGNORED).any():
            return out.sum() * 0
        return F.cross_entropy(upsampled(out.float(), self.grid, y.shape[1:]), y, ignore_index=IGNORED)

    def labelled(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        one_hot = F.one_hot(y.clamp_min(0), self.width) * (y != IGNORED)[..., None]  # (B, S, S, C)
        share = F.adaptive_avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), self.grid).flatten(2)  # (B, C, N)
        known = share.sum(1) > 0
        return x[known], share.argmax(1)[known]

    def path(self, x: Tensor, y: Tensor, decays: Sequence[float]) -> Iterator[tuple[float, nn.Linear]]:
        return softmax_path(x, y, self.width, decays)

    def scores(self, told: Sequence[Tensor], truth: Sequence[Any], draws: int = DRAWS) -> dict[str, Score]:
        each = np.stack([self.confusion(out, truth[i]) for i, out in enumerate(told)])  # (N, C, C)

        def both(index: np.ndarray) -> dict[str, float]:
            total = each[index].sum(0)
            right, either = total.diagonal(), total.sum(0) + total.sum(1) - total.diagonal()
            there = either > 0
            return {
                "mean IoU": float(ratio(right, either)[there].mean()) if there.any() else 0.0,
                "pixel accuracy": float(ratio(right.sum(), total.sum())),
            }

        return resampled(both, len(each), draws)

    def confusion(self, out: Tensor, truth: np.ndarray) -> np.ndarray:
        """Pixels (C, C) by their true class and by the one that is told; the unknown are left out."""
        guess, known = self.told(out, truth.shape), truth != IGNORED
        pairs = truth[known] * self.width + guess[known]
        return np.bincount(pairs, minlength=self.width**2).reshape(self.width, self.width)

    def told(self, out: Tensor, size: tuple[int, ...]) -> np.ndarray:
        """The place of the class of each pixel, (H, W) int64, of the numbers (h * w, C) of an image."""
        return upsampled(out[None].float(), self.grid, size)[0].argmax(0).numpy()

    def answers(self, told: Sequence[Tensor], items: Sequence[Item], rows: Examples) -> list[Segmented]:
        made = []
        for out, item in zip(told, items, strict=True):
            width, height = size_of(item.input)
            places = self.told(out, (height, width))
            shares = np.bincount(places.ravel(), minlength=self.width) / places.size
            every = {name: float(f"{s:.6g}") for name, s in zip(self.classes, shares.tolist(), strict=True)}
            made.append(Segmented(item.file, None, np.array(self.numbers, np.uint8)[places], every))
        return made

    def title(self) -> str:
        return f"tells which of {len(self.numbers)} classes each pixel is of ({listed(self.classes)})"

    def fits(self, backbone: Backbone) -> bool:
        return isinstance(backbone, ImageBackbone) and backbone.grid(*backbone.image_size) == self.grid

    def facts(self) -> dict[str, Any]:
        made = {"classes": list(self.classes), "grid": list(self.grid), "head": self.kind}
        return made | {"palette": list(self.palette)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Masks:
        names, grid, colours = (
            read_names(facts),
            numbers(facts, "grid", 1 << 12),
            numbers(facts, "palette", 255),
        )
        if not all(name.isascii() and name.isdigit() and len(name) < 4 and int(name) < 255 for name in names):
            raise Untrusted("the classes of model.json are no numbers from 0 to 254")
        if len(grid) != 2 or 0 in grid or len(colours) > 768:
            raise Untrusted("model.json has a grid that is no two numbers, or a palette of over 256 colours")
        if (kind := facts.get("head")) not in ("linear", "conv"):
            raise Untrusted(f"model.json has a head {kind!r}, which is neither linear nor conv")
        return cls(tuple(map(int, names)), (grid[0], grid[1]), tuple(colours), kind)


def numbers(facts: Mapping[str, Any], key: str, most: int) -> list[int]:
    """The numbers that a saved model has. Raises Untrusted where they are no list of numbers up to `most`."""
    some = facts.get(key)
    if not isinstance(some, list) or not all(type(n) is int and 0 <= n <= most for n in some):
        raise Untrusted(f"model.json has no list of numbers from 0 to {most} under {key!r}")
    return some


def as_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h * w, C) -> (B, C, h, w); cells come row by row."""
    return x.transpose(1, 2).unflatten(2, grid)


def upsampled(out: Tensor, grid: tuple[int, int], size: Sequence[int]) -> Tensor:
    """Scores of cells (B, h * w, C) -> those of pixels (B, C, H, W), bilinearly."""
    return F.interpolate(as_map(out, grid), tuple(size), mode="bilinear")
