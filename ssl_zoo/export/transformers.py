"""transformers' folders: `AutoModel.from_pretrained` and `AutoTokenizer` or `AutoImageProcessor` open them.

A backbone of transformers goes back to its own architecture, and the text transformer of this library to
Qwen3 (`trunk`). Networks of timm become transformers' `timm_wrapper`, whose folder is timm's own.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.utils import logging

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.export import trunk
from ssl_zoo.export._base import Door, ExportError, Reader, Source, spelt, write_weights
from ssl_zoo.export.timm import inside, preparing, write_timm
from ssl_zoo.export.tokens import fast


class TransformersDoor(Door):
    name = "transformers"
    library = "transformers"

    def write(self, source: Source, folder: Path) -> None:
        with quiet():
            if source.backbone.modality == "image":
                write_timm(source, folder, model_type="timm_wrapper")
            else:
                write_text(source, folder)

    def open(self, source: Source, folder: Path) -> Reader:
        with quiet():
            model = AutoModel.from_pretrained(folder).eval()
            if source.backbone.modality == "image":
                return picture_reader(AutoImageProcessor.from_pretrained(folder), model, inside(source))
            return text_reader(AutoTokenizer.from_pretrained(folder), model)

    def lines(self, source: Source, folder: Path) -> str:
        start = f"model = AutoModel.from_pretrained({spelt(folder)}).eval()\n"
        if source.backbone.modality == "image":
            within = inside(source)
            pooled = f"found.last_hidden_state.mean({within})" if within else "found.pooler_output"
            return (
                f"from transformers import AutoImageProcessor, AutoModel\n{start}"
                f"prepare = AutoImageProcessor.from_pretrained({spelt(folder)})\n"
                'found = model(**prepare(image, return_tensors="pt"))  # image: of PIL\n'
                f"features = {pooled}  # (1, {source.backbone.dim})"
            )
        return (
            f"from transformers import AutoModel, AutoTokenizer\n{start}"
            f"tokenizer = AutoTokenizer.from_pretrained({spelt(folder)})\n"
            'batch = tokenizer(["a text"], padding=True, truncation=True, return_tensors="pt")\n'
            'seen = batch["attention_mask"][..., None]\n'
            "features = (model(**batch).last_hidden_state * seen).sum(1) / seen.sum(1)"
            f"  # (1, {source.backbone.dim})"
        )

    def notes(self, source: Source) -> Sequence[str]:
        return preparing(source) if source.backbone.modality == "image" else reading(source)


def reading(source: Source) -> list[str]:
    """How texts are read outside of this library, and which architecture does it."""
    tokenizer, context = source.words()
    around = len(tokenizer.prefix) + len(tokenizer.suffix)
    found = [
        f"A text is cut to {context} tokens, {around} special one{'s' * (around != 1)} around it included. "
        "Its features are the mean over all its tokens, the special ones too and padding not.",
        "The names of special tokens in a text are text, not special tokens.",
    ]
    if isinstance(source.backbone, TextTransformer):
        found.append(
            "The architecture is Qwen3's with other sizes, and no weight is Qwen's. transformers 5.23 is "
            "known to read it alike; earlier ones may ignore is_causal=false."
        )
    elif hasattr(source.backbone.model, "pooler"):
        found.append("It has no trained pooler: transformers draws one, so do not read pooler_output.")
    return found


def write_text(source: Source, folder: Path) -> None:
    """Fill a folder with model and tokenizer.

    Raises:
        ExportError: transformers has no architecture that reads alike.
    """
    backbone = source.backbone
    assert isinstance(backbone, TokenBackbone)
    tokenizer, context = source.words()
    if isinstance(backbone, TextTransformer):
        about, state = trunk.architecture(backbone, context), trunk.weights(backbone)
    elif isinstance(backbone, HFBackbone):
        if backbone.kind == "encoder" and backbone.order == "causal":
            raise ExportError(
                f"{type(backbone.model).__name__} was trained to read causally, and reads in both directions "
                "when transformers opens it; take to=onnx or to=torch"
            )
        about, state = copy.deepcopy(backbone.model.config), backbone.model.state_dict()
        about.architectures, about.dtype = [type(backbone.model).__name__], "float32"
        if backbone.kind == "decoder" and backbone.order == "both":
            about.is_causal = False
    else:
        raise ExportError(
            f"transformers has no architecture without a trunk, as {source.title} is; take "
            "to=sentence-transformers, onnx or torch"
        )
    about.save_pretrained(folder)
    write_weights(state, source, folder / "model.safetensors")
    fast(tokenizer, context).save_pretrained(folder)


def text_reader(tokenizer: Any, model: Any) -> Reader:
    """Texts -> the mean over their tokens, as transformers gives them."""

    def read(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        seen = batch["attention_mask"].unsqueeze(-1)  # (B, T, 1)
        return (model(**batch).last_hidden_state * seen).sum(1) / seen.sum(1)

    return read


def picture_reader(processor: Any, model: Any, within: tuple[int, ...]) -> Reader:
    """Images -> what the model pools, or the mean of its features over `within`."""

    def read(pictures: Tensor) -> Tensor:
        found = model(**processor(pictures, return_tensors="pt"))
        return found.last_hidden_state.mean(within) if within else found.pooler_output

    return read


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers reports neither progress nor advice."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights before it reads them
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
