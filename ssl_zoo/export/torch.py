"""A program of torch.export: PyTorch alone opens it, without this library or timm or transformers.

model.pt2           the program; a batch, and a text, may have any length
model.safetensors   the backbone's weights once more, by the names of this library, with the receipt of a run
config.json         what the weights are of: `ssl_zoo.load(FOLDER)` opens the folder as a backbone
classes.json        of a classifier, the names of its classes
tokenizer/          of texts, as this library writes it; tokenizer.json is the `tokenizers` library's
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_zoo import hub
from ssl_zoo.export._base import Door, ExportError, Reader, Source, spelt, write_json, write_weights
from ssl_zoo.export.graph import inputs, outputs, wrapped

PROGRAM, CLASSES = "model.pt2", "classes.json"


class TorchDoor(Door):
    name = "torch"

    def write(self, source: Source, folder: Path) -> None:
        module, example, dynamic = wrapped(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(traced(module, example, dynamic), folder / PROGRAM)
        write_json(hub.describe(source.backbone), folder / "config.json")
        write_weights(source.backbone.state_dict(), source, folder / "model.safetensors")
        write_beside(source, folder)

    def open(self, source: Source, folder: Path) -> Reader:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(folder / PROGRAM).module()

        def read(rows: Any) -> Tensor:
            return program(**inputs(source, rows))[0]

        return read

    def lines(self, source: Source, folder: Path) -> str:
        start = f"import torch\nmodel = torch.export.load({spelt(folder / PROGRAM)}).module()\n"
        given, end = ", ".join(outputs(source)), naming(source, folder)
        if source.backbone.modality == "image":
            shape = ", ".join(map(str, example_shape(source)))
            return f"{start}x = torch.rand({shape})  # images in [0, 1]\n{given} = model(x){end}"
        return f"{start}{ids_lines(source, folder, 'torch.tensor')}\n{given} = model(**batch){end}"

    def notes(self, source: Source) -> Sequence[str]:
        return [
            f"{PROGRAM} is a program of torch.export, which holds operations and weights and no Python code.",
            *plain_reading(source),
        ]


def traced(module: torch.nn.Module, example: dict[str, Tensor], dynamic: Any) -> torch.export.ExportedProgram:
    """The program of a module.

    Raises:
        ExportError: a part of it depends on what a row holds, or torch knows no such operation.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, (), example, dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # whatever a network of anyone does while it is traced
            first = (str(error).strip().splitlines() or [repr(error)])[0]
            raise ExportError(f"torch.export cannot trace this network: {first[:300]}") from error


def write_beside(source: Source, folder: Path) -> None:
    """What stands beside a program: the names of classes, and the tokenizer."""
    if source.head is not None:
        write_json(list(source.head.classes), folder / CLASSES)
    if source.tokenizer is not None:
        source.tokenizer.save(folder / "tokenizer")


def naming(source: Source, folder: Path) -> str:
    """Python that names the likeliest class of the first row; "" without classes."""
    if source.head is None:
        return ""
    return (
        f"\nimport json, pathlib\nclasses = json.loads(pathlib.Path({spelt(folder / CLASSES)}).read_text())\n"
        "print(classes[probabilities[0].argmax()])"
    )


def example_shape(source: Source) -> tuple[int, ...]:
    """The shape of a batch of one image."""
    backbone = source.pictures()
    return 1, len(backbone.normalise.mean), *backbone.image_size


def ids_lines(source: Source, folder: Path, as_tensor: str) -> str:
    """Python that turns a text into the inputs, with the `tokenizers` library alone."""
    tokenizer, context = source.words()
    around, moved = len(tokenizer.prefix) + len(tokenizer.suffix), tokenizer._offset
    shift = f"[i + {moved} for i in ids]" if moved else "ids"
    return (
        "from tokenizers import Tokenizer\n"
        f"words = Tokenizer.from_file({spelt(folder / 'tokenizer' / 'tokenizer.json')})\n"
        f'ids = words.encode("a text", add_special_tokens=False).ids[:{context - around}]\n'
        f"ids = {[*tokenizer.prefix]} + {shift} + {[*tokenizer.suffix]}\n"
        f'batch = {{"input_ids": {as_tensor}([ids]), "attention_mask": {as_tensor}([[1] * len(ids)])}}'
    )


def plain_reading(source: Source) -> list[str]:
    """How rows are prepared for the function of `graph`, and what it gives."""
    gives = f"pooled features (B, {source.backbone.dim})"
    alone, of_each = f"{gives} and those of each cell", f"{gives} and those of each token"
    if source.head is not None:
        alone = of_each = f"the probability of each class (B, {len(source.head.classes)}) and {gives}"
    if source.backbone.modality == "image":
        shape = ", ".join(map(str, example_shape(source)[1:]))
        return [
            f"It takes images (B, {shape}) as float32 in [0, 1], resized by yourself (ssl_zoo: bilinear, "
            f"antialiased, whatever their shape), and normalises them itself. It gives {alone}."
        ]
    context = source.words()[1]
    return [
        f"It takes input_ids and attention_mask (B, T) int64, with T up to {context}, and gives {of_each}. "
        "Padding counts for nothing, wherever it stands.",
        "Ids are those of tokenizer/tokenizer.json, moved up by the number of special ids that it does not "
        "know, with prefix and suffix of tokenizer/vocabulary.json around them.",
    ]
