"""Tiny backbones as sources of exports, with weights far from their start: helpers for tests."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer as Inner
from tokenizers import models, normalizers, pre_tokenizers
from torch import nn
from zoo_backbones import stirred

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.backbones.cnn import TimmCNN
from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import TimmViT
from ssl_zoo.data.tokenizer import Tokenizer, bpe, bytes_tokenizer, characters
from ssl_zoo.data.tokenizer_pretrained import pretrained
from ssl_zoo.export._base import Source

RECEIPT = {"format": 1, "config": {}, "weights": "0" * 64, "backbone": "backbone", "seed": 0, "steps": 2}
CONTEXT = 24
WORDS = [*"abcdefghijklmnop", "##a", "##b", "##c", "the", "cat", "sat", "on", "mat", ".", "[UNK]"]


def far(backbone: Backbone) -> Backbone:
    """The backbone, evaluating, with other weights and statistics than a fresh one."""
    for part in backbone.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()  # pyright: ignore
            part.running_var.uniform_(0.5, 2)  # pyright: ignore
    return stirred(backbone).eval()


def vit(name: str = "vit_tiny_patch16_224", **changes: Any) -> Source:
    torch.manual_seed(0)
    size = {"image_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return Source(far(TimmViT(name, **size | changes)), RECEIPT)


def cnn(name: str = "resnet18", **changes: Any) -> Source:
    torch.manual_seed(0)
    size = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]} if name == "resnet18" else {}
    return Source(far(TimmCNN(name, **{"image_size": 32} | size | changes)), RECEIPT)


def text(order: str = "both", tokenizer: Tokenizer | None = None, **changes: Any) -> Source:
    torch.manual_seed(0)
    tokenizer = tokenizer or bytes_tokenizer()
    size = {"width": 16, "depth": 2, "heads": 2, "kv_heads": 1}
    backbone = TextTransformer(tokenizer.vocabulary, **size | changes)
    backbone.order = order  # pyright: ignore
    return Source(far(backbone), RECEIPT, tokenizer, CONTEXT)


SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
}


def hf(kind: str, order: str | None = None) -> Source:
    torch.manual_seed(0)
    words = bytes_tokenizer()
    backbone = HFBackbone(config={"model_type": kind} | SIZES[kind], vocabulary=words.vocabulary)
    if order is not None:
        backbone.order = order  # pyright: ignore
    return Source(far(backbone), RECEIPT, words, CONTEXT)


def tokenizers_of_all_kinds(folder: Any) -> dict[str, Tokenizer]:
    """Our own, and one of BERT's kind out of a file."""
    learned = ["The cat sat on the mat. " * 30, "<pad> <sep> <mask> ünïcode"]
    inner = Inner(
        models.WordPiece({w: i for i, w in enumerate([*WORDS, "[PAD]", "[CLS]", "[SEP]", "[MASK]"])})
    )
    inner.normalizer = normalizers.BertNormalizer()  # pyright: ignore
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    inner.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    inner.save(str(folder / "tokenizer.json"))
    return {
        "bytes": bytes_tokenizer(),
        "characters": characters(learned),
        "bpe": bpe(learned, 280),
        "uncased": bpe(learned, 280, lowercase=True),
        "bert": pretrained(name=str(folder)),
    }
