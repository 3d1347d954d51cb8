"""What an objective may ask of a backbone.

`forward(x)` gives `Features`. A backbone made of tokens also splits that in two: `embed(x)` gives the content
of each token without its position, and `encode(tokens, at)` adds the positions `at` and runs the trunk.
Objectives that mask work between the two calls.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ssl_zoo.backbones._timm import Normalise

Modality = Literal["image", "text"]
Kind = Literal["vit", "cnn", "patches", "bag", "transformer", "encoder", "decoder"]
Order = Literal["both", "causal"] | Tensor
Layers = Literal["pooled", "tokens"]
# How a text backbone writes, as it was pretrained:
# next: after any text, one token after the other; each sees what is before it.
# prefix: the same, but the text that was given sees itself whole.
# spans: the same, but the text that was given ends in the separator (T5: inputs, and then targets).
# masks: fills in masks that stand in the places of all that is to come.
Writes = Literal["next", "prefix", "spans", "masks"]

KINDS: dict[Kind, tuple[Modality, str]] = {
    "vit": ("image", "any timm ViT (backbone=vit_micro, vit_tiny, ...)"),
    "cnn": ("image", "any timm CNN (backbone=resnet_micro, resnet18, ...)"),
    "patches": ("image", "PatchDictionary (backbone=patch_dictionary)"),
    "bag": ("text", "TokenBag (backbone=bag)"),
    "transformer": ("text", "TextTransformer (backbone=transformer_micro, ...)"),
    "encoder": ("text", "any transformers encoder (backbone=hf_bert, ...)"),
    "decoder": ("text", "any transformers decoder (backbone=hf_gpt2, ...)"),
}


class Features(NamedTuple):
    """What a backbone gives for a batch.

    tokens (B, N, D): content positions only, without class or register tokens; of a CNN its cells.
    pooled (B, D): the mean over the content tokens (padding excluded), which every probe reads.
    layers: where they are asked for, the same after each block: "pooled" (B, D_i), or "tokens" (B, N_i, D_i).
    """

    tokens: Tensor
    pooled: Tensor
    layers: tuple[Tensor, ...] = ()


class Vocabulary(NamedTuple):
    """What the ids of a text backbone mean.

    size: how many ids there are.
    pad: the id that fills short rows. separator: the id that opens a document.
    mask: the id that hides a token; None if there is none.
    special: ids that are not text: they are never masked and never used as noise.
    continues: ids that continue the word before them (for whole-word masking); () if unknown.
    """

    size: int
    pad: int = 0
    separator: int = 1
    mask: int | None = 2
    special: tuple[int, ...] = (0, 1, 2)
    continues: tuple[int, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[Any]) -> Vocabulary:
        """A vocabulary, or its values in this order as a configuration keeps them."""
        return cls(*parts[:4], *map(tuple, parts[4:]))

    def plain(self) -> list[Any]:
        """What a configuration keeps of it: plain JSON values, without `continues`, which only views read."""
        return [*self[:4], list(self.special)]


class Backbone(nn.Module, ABC):
    """Turns raw input into features.

    Attributes:
        kind: which of `KINDS` it is; objectives say by kind what they can train.
        dim: width of the features.
        config: keyword arguments that build this backbone again (plain JSON values, no weights).
    """

    kind: Kind
    dim: int

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = config

    @property
    def modality(self) -> Modality:
        """What it reads: "image" or "text"."""
        return KINDS[self.kind][0]

    @abstractmethod
    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        """Features of images (B, C, H, W), uint8 or float in [0, 1], or of ids (B, T) int64.

        Args:
            segments: (B, T) document of each id, -1 = padding; None: every row is one document. Images have
                none.
            layers: "pooled" also gives the mean of the content tokens after each block, "tokens" the tokens.

        Raises:
            ValueError: an input that the backbone cannot read, or segments of images.
        """

    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the trunk from input to output; fine-tuning lowers learning rates along them."""


class ImageBackbone(Backbone):
    """A backbone that reads images.

    Attributes:
        image_size: (height, width) in pixels to which images are resized before they are read.
        normalise: what images go through first: checks, and (x - mean) / std of each channel.
    """

    image_size: tuple[int, int]
    normalise: Normalise

    @abstractmethod
    def grid(self, height: int, width: int) -> tuple[int, int]:
        """How many rows and columns of tokens an image of this size in pixels has; tokens come row by row.

        Raises:
            ValueError: a size that the backbone cannot read.
        """


class TokenBackbone(Backbone):
    """A backbone whose positions can be chosen, hidden and reordered.

    Attributes:
        orders: names of the orders that `encode` honours; a backbone that honours both also takes a tensor.
        order: the order that `forward` uses. The objective that pretrains sets it, and it is saved with the
            weights, so that features are read the way they were trained.
        writes: how it writes text (see `Writes`); None: it does not. The objective sets it, and it is saved
            with the weights. Where none has said so, a backbone whose order is causal writes "next".
        patch: side of an image patch in pixels; None for text.
        vocabulary: what the ids mean; None for images.
        max_length: longest sequence the backbone takes; None when there is no limit.
    """

    orders: frozenset[Literal["both", "causal"]] = frozenset({"both"})
    order: Literal["both", "causal"] = "both"
    _writes: Writes | None = None
    patch: int | None = None
    vocabulary: Vocabulary | None = None
    max_length: int | None = None

    @property
    def writes(self) -> Writes | None:
        return self._writes or ("next" if self.order == "causal" else None)

    @writes.setter
    def writes(self, how: Writes | None) -> None:
        self._writes = how

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """The content of each token, without its position: (B, N, D).

        Raises:
            ValueError: an input that the backbone cannot read.
        """

    @abstractmethod
    def encode(
        self,
        tokens: Tensor,
        at: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        order: Order = "both",
        grid: tuple[int, int] | None = None,
        layers: Layers | None = None,
    ) -> Features:
        """Run the trunk.

        Args:
            tokens: (B, N, D) as `embed` gives them, or any choice of them.
            at: (B, N) int64 position of each token; None means that they stand in order from 0 within their
                segment.
            segments: (B, N) document of each token, -1 = padding; no token sees another document.
            order: who sees whom. "both": all; "causal": itself and what comes before it in `tokens`; a tensor
                (B, N) int64: token i sees token j iff order_j <= order_i.
            grid: rows and columns that the positions of an image are counted in; None means those of
                `image_size`. Text has none.
            layers: "pooled" also gives the mean of the content tokens after each block, "tokens" the tokens.

        Raises:
            ValueError: an order this backbone cannot honour, or a position it does not have (on a GPU,
                where `at` is not read, the device says so instead).
        """

    def forward(self, x: Tensor, segments: Tensor | None = None, *, layers: Layers | None = None) -> Features:
        return self.encode(self.embed(x), None, segments, order=self.order, layers=layers)

    def word_embedding(self) -> nn.Embedding:
        """The table of token embeddings (V, E) of a text backbone, for tied output heads.

        Raises:
            TypeError: the backbone has none.
        """
        raise TypeError(f"{type(self).__name__} has no word embedding: it is not a text backbone")

    def smaller(self, fraction: float = 1.0, depth: int | None = None) -> TokenBackbone:
        """A new backbone of the same vocabulary, of about this fraction of the width and heads.

        depth: its blocks; None: as many as here.

        Raises:
            TypeError: the backbone cannot be built in another size.
        """
        raise TypeError(f"{type(self).__name__} cannot be built in another size")

    def refuse(self, order: Order) -> None:
        """Raise ValueError if `order` is one this backbone cannot honour."""
        title = type(self).__name__
        if isinstance(order, Tensor):
            if len(self.orders) < 2:
                raise ValueError(f"{title} reads in the order {min(self.orders)!r} alone: it takes no other")
        elif order not in ("both", "causal"):
            raise ValueError(f"order {order!r} is not known: take 'both', 'causal' or a tensor (B, N)")
        elif order not in self.orders:
            wanted = "causal" if order == "causal" else "bidirectional"
            raise ValueError(f"{title} cannot be {wanted}")


# How far beyond [0, 1] a pixel may lie: sharp resizing filters overshoot by a tenth, while images that are
# scaled in another way lie far outside.
BEYOND = 0.25


def as_float(x: Tensor) -> Tensor:
    """uint8 images from 0 to 255 as float32 in [0, 1]; float images as they are.

    Raises:
        ValueError: any other type.
    """
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not x.is_floating_point():
        raise ValueError(f"images must be uint8 or float in [0, 1], not {x.dtype}")
    return x


def refuse_out_of_range(x: Tensor) -> None:
    """Raise ValueError if float images hold NaN, or values far outside of [0, 1]. Waits for a GPU."""
    if not x.numel():
        return
    x = x.detach()
    if x.is_cpu and x.dtype in (torch.float32, torch.float64):
        pixels = x.numpy()  # as quick, and in any layout of memory
        low, high = float(pixels.min()), float(pixels.max())
    else:
        low, high = (end.item() for end in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("the images hold NaN or infinite pixels")
    if low < -BEYOND or high > 1 + BEYOND:
        raise ValueError(
            f"the images hold values from {low:.3g} to {high:.3g}, and a backbone takes floats in [0, 1] (it "
            "normalises them itself), or uint8 from 0 to 255: divide by 255, or leave out your own scaling"
        )


def pool(tokens: Tensor, segments: Tensor | None = None) -> Tensor:
    """Mean over content tokens: (B, N, D) -> (B, D); padding (segment -1) does not count."""
    if segments is None:
        return tokens.mean(1)
    seen = (segments >= 0).to(tokens.dtype).unsqueeze(-1)
    return (tokens * seen).sum(1) / seen.sum(1).clamp_min(1)


def segment_positions(segments: Tensor) -> Tensor:
    """Position of each token within its own run of equal segments, from 0: (B, T) -> (B, T) int64."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - (index * starts).cummax(1).values


def outside(numbers: Tensor, count: int) -> int | None:
    """One of these numbers that is not in 0..count-1; None if all are.

    On a CPU alone: elsewhere the host would wait for the device, and None is given unread.
    """
    if numbers.device.type != "cpu" or not numbers.numel() or torch.compiler.is_compiling():
        return None
    values = numbers.numpy()
    low, high = int(values.min()), int(values.max())
    return low if low < 0 else high if high >= count else None


def check_positions(at: Tensor, count: int, whose: str) -> None:
    """Raise ValueError where a position is not one of 0..count-1, on a CPU."""
    if (wrong := outside(at, count)) is not None:
        raise ValueError(f"position {wrong} is asked for, but {whose} has positions 0 to {count - 1}")


def check_ids(ids: Tensor, count: int) -> None:
    """Raise ValueError where ids are no whole numbers (B, T), or, on a CPU, one is not in 0..count-1."""
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
        told = f"{tuple(ids.shape)} {ids.dtype}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"a text backbone reads ids, a tensor (B, T) of int64, not {told}")
    if (wrong := outside(ids, count)) is not None:
        raise ValueError(
            f"the text holds id {wrong}, but this backbone has embeddings of ids 0 to {count - 1}: take the "
            "tokenizer it was made for"
        )


def attention_mask(segments: Tensor, order: Order) -> Tensor:
    """Who sees whom: (B, 1, T, T) bool, True where the token of the row may read that of the column.

    Padding sees itself alone, so that no row is empty (a softmax over nothing is NaN).

    Args:
        segments: (B, T) document of each token, -1 = padding.
        order: as in `TokenBackbone.encode`.
    """
    same = segments[:, :, None] == segments[:, None, :]
    same = same & (segments >= 0)[:, None, :]
    if isinstance(order, Tensor):
        same = same & (order[:, None, :] <= order[:, :, None])
    elif order == "causal":
        same = same.tril()
    eye = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    return (same | eye)[:, None]
