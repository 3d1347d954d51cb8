"""sentence-transformers' folders: `SentenceTransformer(FOLDER)` opens them, and `encode` gives the features.

A text backbone is transformers' model with the mean over the tokens behind it. A bag of tokens is their
`StaticEmbedding`, the mean over the vectors of ids, which puts no special token in front of a text: there a
sign that no text holds stands for the separator, and the tokenizer writes it before each text.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from torch import Tensor

from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.export._base import Door, ExportError, Reader, Source, spelt, write_weights
from ssl_zoo.export.tokens import whole
from ssl_zoo.export.transformers import quiet, reading, write_text

OPENS = "\U0010fffd"  # a private sign, of which Unicode says that it will never be a letter


class SentenceTransformersDoor(Door):
    name = "sentence-transformers"
    library = "sentence-transformers"

    def write(self, source: Source, folder: Path) -> None:
        if source.backbone.modality == "image":
            raise ExportError(
                f"sentence-transformers reads texts, and {source.title} images; take to=timm, transformers, "
                "onnx or torch"
            )
        with quiet(), tempfile.TemporaryDirectory() as name:
            if isinstance(source.backbone, TokenBag):
                modules = [static(source, source.backbone)]
            else:
                write_text(source, Path(name))
                trunk = Transformer(name, max_seq_length=source.words()[1])
                modules = [trunk, Pooling(source.backbone.dim, "mean")]
            made = SentenceTransformer(modules=[*modules], device="cpu")
            made.save_pretrained(str(folder), create_model_card=False)
        for file in folder.rglob("model.safetensors"):  # once more, with the receipt
            write_weights(load_file(file), source, file)

    def open(self, source: Source, folder: Path) -> Reader:
        with quiet():
            model = SentenceTransformer(str(folder), device="cpu")

        def read(texts: list[str]) -> Tensor:
            return model.encode(texts, convert_to_tensor=True, show_progress_bar=False)  # pyright: ignore

        return read

    def lines(self, source: Source, folder: Path) -> str:
        return (
            "from sentence_transformers import SentenceTransformer\n"
            f"model = SentenceTransformer({spelt(folder)})\n"
            f'features = model.encode(["a text"])  # (1, {source.backbone.dim})'
        )

    def notes(self, source: Source) -> Sequence[str]:
        if isinstance(source.backbone, TokenBag):
            return [
                f"A text is cut to {source.words()[1]} tokens, the separator before it included. Its "
                "features are the mean of the vectors of its tokens, and of that of the separator.",
                f"The tokenizer writes U+{ord(OPENS):X} before each text, which is the separator. An empty "
                "text has features of zeros here, and those of the separator in ssl_zoo.",
            ]
        return reading(source)


def static(source: Source, backbone: TokenBag) -> StaticEmbedding:
    """A bag of tokens as sentence-transformers has it.

    Raises:
        ExportError: the tokenizer puts more around a text than one id before it.
    """
    tokenizer, context = source.words()
    if len(tokenizer.prefix) != 1 or tokenizer.suffix or not tokenizer._offset:
        raise ExportError(
            "a bag of tokens becomes their StaticEmbedding where one separator stands before each text, as "
            "with tokenizer=bpe, bytes and characters; this tokenizer puts others around it. Take to=onnx or "
            "to=torch"
        )
    layout = json.loads(whole(tokenizer).to_str())
    (first,) = tokenizer.prefix
    opened = next(one for one in layout["added_tokens"] if one["id"] == first)
    vocabulary = layout["model"]["vocab"]
    vocabulary[OPENS] = vocabulary.pop(opened["content"])
    # No special token: those are not looked for in texts. It is, behind the normalizer that writes it.
    layout["added_tokens"] = [opened | {"content": OPENS, "special": False, "normalized": True}]
    # Not `Prepend`: the sign itself goes through the normalizer too, and has to stay one.
    start = {"Regex": rf"\A(?!{OPENS})"}
    write_first = {"type": "Replace", "pattern": start, "content": OPENS}
    steps = [step for step in (layout["normalizer"], write_first) if step is not None]
    layout["normalizer"] = {"type": "Sequence", "normalizers": steps}
    made = tokenizers.Tokenizer.from_str(json.dumps(layout))
    made.enable_truncation(context)
    return StaticEmbedding(made, embedding_weights=backbone.words.weight.detach().clone())
