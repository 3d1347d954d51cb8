"""Tiny backbones of each kind, batches for them, and the objectives found in a folder: helpers for tests."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ssl_zoo
from ssl_zoo.backbones._base import KINDS, Backbone, Kind, Vocabulary
from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import TimmCNN, TimmViT
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.objectives.crops import DocumentCrops
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.objectives.supervised import Supervised

OBJECTIVES = Path(ssl_zoo.__file__).parent / "objectives"
SIDE = 32  # of images, in pixels
VOCABULARY = Vocabulary(64)
TEXT_WIDTH = 32

CLASSES = Supervised.tiny["classes"]


def backbone(kind: Kind, seed: int = 0, dropout: float = 0.1, **changes: Any) -> Backbone:
    """A tiny backbone of a kind; the same weights for the same seed. `dropout` is for text."""
    torch.manual_seed(seed)
    if kind == "vit":
        arguments: dict[str, Any] = {"image_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 2}
        return TimmViT("vit_tiny_patch16_224", **arguments | {"num_heads": 2} | changes)
    if kind == "cnn":
        shape: dict[str, Any] = {"image_size": SIDE, "layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
        small = {"stem": "small", "stem_type": "deep", "stem_width": 4}
        return TimmCNN("resnet18", **shape | small | changes)
    if kind == "bag":
        return TokenBag(VOCABULARY, **{"width": TEXT_WIDTH} | changes)
    if kind == "transformer":
        size = {"width": TEXT_WIDTH, "depth": 2, "heads": 2, "dropout": dropout}
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
    """A batch laid out as the objective asks, with what it reads: row numbers, captions as second halves."""
    if objective.backbone.modality == "image":
        made = images(rows, seed)
    else:
        made = text(rows, length + objective.lookahead, seed, objective.layout)
    if "index" in objective.reads:
        made = made._replace(index=torch.arange(rows))
    if "other" in objective.reads:
        made = made._replace(other=text(rows, length, seed + 1, "document"))
    return made


def part(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, of both halves."""
    halves = (None if x is None else part(x, rows) if isinstance(x, Batch) else x[rows] for x in batch)
    return Batch(*halves)


def build(cls: type[Objective], on: Backbone, **arguments: Any) -> Objective:
    """The objective as its `tiny` says, where the name of a kind is a second backbone of that kind; a Sum has
    two terms that fit the backbone."""
    small = {key: backbone(x, 2, 0.0) if x in list(KINDS) else x for key, x in cls.tiny.items()}
    if "terms" in inspect.signature(cls).parameters:
        small |= {"terms": pairing(on), "weights": {"second": 0.5}}
    return cls(on, **small | arguments)


def pairing(on: Backbone) -> dict[str, Callable[[Backbone], Objective]]:
    """Two terms of a Sum."""
    if isinstance(on, TokenBag):
        return {
            "first": lambda b: build(DocumentCrops, b),
            "second": lambda b: build(DocumentCrops, b, low=4),
        }
    if isinstance(on, TimmViT):
        pair: tuple[type[Objective], type[Objective]] = (MAE, SimCLR)
    else:
        pair = (Rotation, SimCLR) if on.modality == "image" else (NextToken, MaskedLM)
    first, second = pair
    return {"first": lambda b: build(first, b), "second": lambda b: build(second, b)}


def discover(folder: Path = OBJECTIVES) -> list[type[Objective]]:
    """Every objective class that a file of the folder defines: no registry, the files are the list."""
    found: list[type[Objective]] = []
    for file in sorted(folder.glob("*.py")):
        if file.name == "__init__.py":
            continue
        if folder == OBJECTIVES:
            name = f"ssl_zoo.objectives.{file.stem}"
            module = importlib.import_module(name)
        else:
            name = f"objectives_of_{folder.name}_{file.stem}".replace("-", "_")
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        for value in vars(module).values():
            own = isinstance(value, type) and issubclass(value, Objective) and value.__module__ == name
            if own and not inspect.isabstract(value):
                found.append(value)
    return found


def pairs() -> list[tuple[type[Objective], Kind]]:
    """Every objective with every kind of backbone it takes."""
    return [(cls, kind) for cls in discover() for kind in cls.takes]


def refusals() -> list[tuple[type[Objective], Kind]]:
    """Every objective with every kind of backbone it does not take."""
    return [(cls, kind) for cls in discover() for kind in KINDS if kind not in cls.takes]
