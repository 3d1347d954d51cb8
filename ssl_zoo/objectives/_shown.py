"""What a page draws of an objective's work on a batch: plain tensors, in one of four drawings.

`Objective.show` returns one of them, in evaluation mode and without gradients. Each has a note, which tells a
reader in a sentence or two what is to be seen, and what the objective wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.tokens import patchify, put, unpatchify


@dataclass(frozen=True)
class Pictures:
    """Pictures of every sample, side by side. columns: title -> (B, C, H, W), uint8 or float in [0, 1]."""

    note: str
    columns: Mapping[str, Tensor]


@dataclass(frozen=True)
class Choices:
    """A picture of every sample, and what was guessed of it. images: (B, C, H, W), uint8 or float in [0, 1].
    names: of the K choices. p: (B, K) probabilities. right: (B,) number of the true choice."""

    note: str
    images: Tensor
    names: tuple[str, ...]
    p: Tensor
    right: Tensor


@dataclass(frozen=True)
class Pairs:
    """Two views of every sample. first, second: (B, C, H, W) images or (B, T) ids, -1 where there is none.
    similarity: (B, B), row = first view, column = second view."""

    note: str
    first: Tensor
    second: Tensor
    similarity: Tensor


@dataclass(frozen=True)
class Guesses:
    """Guesses of the tokens of a text. ids: (T,). at: (K,) ascending places of those that were guessed. p:
    (K, V) probabilities. hidden: whether the network was shown a mask there."""

    note: str
    ids: Tensor
    at: Tensor
    p: Tensor
    hidden: bool


Shown = Pictures | Choices | Pairs | Guesses


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of all rows of first (B, D) with all rows of second (B, D): (B, B), float32."""
    return F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T


def painted(images: Tensor, patch: int, at: Tensor, content: Tensor) -> Tensor:
    """Images (B, C, H, W) with the patches `at` (B, K) replaced by `content` (B, K, p * p * C)."""
    patches = put(patchify(images, patch), at, content.to(images.dtype))
    return unpatchify(patches, patch, *images.shape[1:])


@contextmanager
def dropping(module: nn.Module) -> Iterator[None]:
    """Inside it, a module in evaluation mode drops out as in training, and draws the same each time."""
    drops = [one for one in module.modules() if isinstance(one, nn.Dropout)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for one in drops:
            one.train()
        try:
            yield
        finally:
            for one in drops:
                one.eval()
