"""A backbone as one function of tensors with a batch of any size, for ONNX and torch.export.

    image (B, C, H, W) float in [0, 1]                          -> pooled (B, D), tokens (B, N, D)
    input_ids (B, T) int64, attention_mask (B, T) int64 0 or 1  -> pooled (B, D), tokens (B, T, D)

A classifier gives probabilities (B, classes) and pooled (B, D). Normalisation of images and positions of
texts are inside.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from ssl_zoo.backbones._base import Backbone, TokenBackbone
from ssl_zoo.backbones.vision import TimmViT
from ssl_zoo.export._base import ExportError, Source
from ssl_zoo.export.rows import images


def outputs(source: Source) -> tuple[str, str]:
    """The names of what the function gives."""
    return ("pooled", "tokens") if source.head is None else ("probabilities", "pooled")


class Program(nn.Module):
    """A function of rows. head: (D -> C), whose probabilities then come first; None: features alone."""

    def __init__(self, head: nn.Module | None):
        super().__init__()
        self.head = head

    def told(self, pooled: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return (pooled, tokens) if self.head is None else (self.head(pooled).softmax(1), pooled)


class Images(Program):
    """Images in [0, 1] of the backbone's size -> features. Pixels are not checked."""

    def __init__(self, backbone: Backbone, head: nn.Module | None):
        super().__init__(head)
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.backbone(image)
        return self.told(found.pooled, found.tokens)


class Patches(Program):
    """The same of a vision transformer, by timm's own way through it, which a batch of any size can take."""

    def __init__(self, backbone: TimmViT, head: nn.Module | None):
        super().__init__(head)
        self.normalise, self.model, self.prefix = backbone.normalise, backbone.model, backbone.prefix

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.model.forward_features(self.normalise(image))[:, self.prefix :]
        return self.told(tokens.mean(1), tokens)


class Texts(Program):
    """Ids, and which of them are no padding -> features. Padding may stand on either side."""

    def __init__(self, backbone: Backbone, head: nn.Module | None):
        super().__init__(head)
        self.backbone = cast(TokenBackbone, backbone)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        order: Any = self.backbone.order
        if order == "causal" and "both" in self.backbone.orders:
            # As numbers: the order by its name takes ways that depend on how long the texts are.
            order = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        at = (attention_mask.cumsum(1) - 1).clamp_min(0)
        tokens = self.backbone.embed(input_ids)
        found = self.backbone.encode(tokens, at, attention_mask - 1, order=order)
        return self.told(found.pooled, found.tokens)


def wrapped(source: Source) -> tuple[nn.Module, dict[str, Tensor], dict[str, dict[int, Any]]]:
    """The function, example inputs by name, and which of their dimensions may have any length.

    Raises:
        ExportError: a vision transformer whose patches see those before them alone.
    """
    batch = length = Dim.DYNAMIC
    # Weights without gradients: a program would else hold operations that refuse them.
    backbone = copy.deepcopy(source.backbone).requires_grad_(False)
    head = None if source.head is None else copy.deepcopy(source.head.layer).requires_grad_(False)
    if backbone.modality == "image":
        refuse_causal_patches(source)
        made = Patches(backbone, head) if isinstance(backbone, TimmViT) else Images(backbone, head)
        return made, {"image": images(source.pictures(), 2)}, {"image": {0: batch}}
    context = source.words()[1]
    ids = torch.randint(3, (2, min(7, context)), generator=torch.Generator().manual_seed(0))
    names = ("input_ids", "attention_mask")
    return (
        Texts(backbone, head),
        dict(zip(names, (ids, torch.ones_like(ids)), strict=True)),
        {name: {0: batch, 1: length} for name in names},
    )


def refuse_causal_patches(source: Source) -> None:
    """Raise ExportError for a vision transformer that reads its patches in order."""
    if isinstance(source.backbone, TimmViT) and source.backbone.order == "causal":
        raise ExportError(
            "each patch of this vision transformer sees those before it alone, as it was pretrained, and no "
            "other library reads it so: open it with ssl_zoo.load"
        )


def inputs(source: Source, rows: Any) -> dict[str, Tensor]:
    """Rows as the function takes them: images (B, C, H, W) in [0, 1] as they are, texts as ids and mask."""
    if source.backbone.modality == "image":
        return {"image": rows}
    tokenizer, context = source.words()
    room = context - len(tokenizer.prefix) - len(tokenizer.suffix)
    ids = [[*tokenizer.prefix, *one[:room], *tokenizer.suffix] for one in tokenizer.encode(rows)]
    long = max(map(len, ids))
    padded = [one + [tokenizer.vocabulary.pad] * (long - len(one)) for one in ids]
    mask = [[1] * len(one) + [0] * (long - len(one)) for one in ids]
    return {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)}
