"""Tiny backbones of each kind and batches for them: what an objective is tried on in a second."""

from __future__ import annotations

from typing import Any

import torch

from ssl_zoo.backbones._base import KINDS, Backbone, Kind, Vocabulary
from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.backbones.cnn import TimmCNN
from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.backbones.patches import PatchDictionary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import TimmViT
from ssl_zoo.objectives._base import Batch, Objective

SIDE = 32  # of images, in pixels
VOCABULARY = Vocabulary(64)
TEXT_WIDTH = 32
CLASSES = 3


def backbone(kind: Kind, seed: int = 0, dropout: float = 0.1, **changes: Any) -> Backbone:
    """A tiny backbone of a kind; the same weights for the same seed, which seeds the default generator.

    Args:
        dropout: of text backbones other than the bag.
        changes: arguments of its class that replace the tiny ones.
    """
    torch.manual_seed(seed)
    if kind == "vit":
        arguments: dict[str, Any] = {"image_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 2}
        arguments |= {"num_heads": 2}
        return TimmViT("vit_tiny_patch16_224", **(arguments | changes))
    if kind == "cnn":
        arguments = {"image_size": SIDE, "layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
        arguments |= {"stem": "small", "stem_type": "deep", "stem_width": 4}
        return TimmCNN("resnet18", **(arguments | changes))
    if kind == "patches":
        arguments = {"count": 12, "patch_size": 6, "stride": 3, "image_size": SIDE}
        return PatchDictionary(**(arguments | changes))
    if kind == "bag":
        return TokenBag(VOCABULARY, **{"width": TEXT_WIDTH} | changes)
    if kind == "transformer":
        size: dict[str, Any] = {"width": TEXT_WIDTH, "depth": 2, "heads": 2, "dropout": dropout}
        return TextTransformer(VOCABULARY, **size | changes)
    if kind == "encoder":
        config = {
            "model_type": "bert",
            "hidden_size": TEXT_WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 128,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
    else:
        drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        size = {"n_embd": TEXT_WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 128}
        config = {"model_type": "gpt2", **size, **drops}
    return HFBackbone(config=config | changes, vocabulary=VOCABULARY)


def images(rows: int = 4, seed: int = 0, side: int = SIDE) -> Batch:
    """Labelled uint8 images with structure, not mere noise."""
    made = torch.Generator().manual_seed(seed)
    coarse = torch.rand(rows, 3, 4, 4, generator=made)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    y = torch.randint(0, CLASSES, (rows,), generator=made)
    return Batch((smooth * 255).to(torch.uint8), None, y)


def text(rows: int = 4, length: int = 24, seed: int = 0, layout: str = "packed") -> Batch:
    """Rows of ids. Packed: several documents a row, no padding. Document: one a row, padded at the end."""
    made = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY.size, (rows, length), generator=made)
    segments = torch.zeros(rows, length, dtype=torch.long)
    ids[:, 0] = VOCABULARY.separator
    for row in range(rows):
        if layout == "packed":
            for cut in (5 + row % 3, 13 + row % 5):
                segments[row, cut:] += 1
                ids[row, cut] = VOCABULARY.separator
        else:
            end = length - 3 * (row % 4)
            segments[row, end:] = -1
            ids[row, end:] = VOCABULARY.pad
    return Batch(ids, segments)


def batch(objective: Objective, rows: int = 4, length: int = 24, seed: int = 0) -> Batch:
    """A batch laid out as the objective asks, with row numbers, and captions where it reads second halves."""
    if objective.backbone.modality == "image":
        made = images(rows, seed)
    else:
        made = text(rows, length + objective.lookahead, seed, objective.layout)
    made = made._replace(index=torch.arange(rows))
    if "other" in objective.reads:
        made = made._replace(other=text(rows, length, seed + 1, "document"))
    return made


def part(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch: those rows of every tensor, and of the second half where there is one."""
    cut = (None if x is None else part(x, rows) if isinstance(x, Batch) else x[rows] for x in batch)
    return Batch(*cut)  # pyright: ignore[reportArgumentType]


def build(cls: type[Objective], on: Backbone, **arguments: Any) -> Objective:
    """The objective with the arguments of its `tiny`, and others; a kind's name gives a second backbone."""
    small = {key: backbone(x, 2, 0.0) if x in list(KINDS) else x for key, x in cls.tiny.items()}
    return cls(on, **small | arguments)
