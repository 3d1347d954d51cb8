"""Folders that transformers and sentence-transformers open: the same ids for any text, the same features."""

import json
import random

import numpy as np
import pytest
import torch
from export_sources import CONTEXT, RECEIPT, cnn, hf, text, tokenizers_of_all_kinds, vit
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
from zoo_backbones import backbone

import ssl_zoo
from ssl_zoo.backbones.bag import TokenBag
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.export import doors
from ssl_zoo.export._base import ExportError, Source
from ssl_zoo.export.rows import TEXTS
from ssl_zoo.export.tokens import fast

KINDS = ("bytes", "characters", "bpe", "uncased", "bert")


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return tokenizers_of_all_kinds(tmp_path_factory.mktemp("tokenizer"))


def odd_texts():
    """Texts of all kinds of signs, drawn, beside those that an export itself is tried on."""
    draw = random.Random(0)
    signs = [
        *"abcthe THE.,<>[]#_\n\t 12",
        "é",
        "東",
        "🙂",
        "\u200b",
        "\u0301",
        "[CLS]",
        "<sep>",
        "[MASK]",
        "##a",
    ]
    return [*TEXTS, "", " ", *("".join(draw.choices(signs, k=draw.randrange(1, 40))) for _ in range(60))]


def mine(source, texts):
    rows = DocumentRows(texts, *source.words())
    batch = rows.read(np.arange(len(texts)))
    with torch.no_grad():
        return source.backbone(batch.x, batch.segments).pooled


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizers_give_the_same_ids(known, kind, tmp_path):
    ours = known[kind]
    fast(ours, 5000).save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for one in odd_texts():
        whole = [*ours.prefix, *ours.encode([one])[0].tolist(), *ours.suffix]
        assert theirs(one)["input_ids"] == whole, repr(one)
    vocabulary = ours.vocabulary
    assert (theirs.pad_token_id, theirs.mask_token_id) == (vocabulary.pad, vocabulary.mask)
    assert theirs.bos_token_id == vocabulary.separator
    assert theirs.sep_token_id == (*ours.suffix, vocabulary.separator)[0]
    assert len(theirs) == vocabulary.size
    assert theirs.model_max_length == 5000


SOURCES = {
    "both, swiglu": text,
    "causal, swiglu": lambda: text("causal"),
    "both, relu2": lambda: text(mlp="relu2", heads=4, kv_heads=2, rope_base=500.0),
    "causal, relu2": lambda: text("causal", mlp="relu2"),
    "bert": lambda: hf("bert"),
    "gpt2": lambda: hf("gpt2"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_transformers_read_the_same(name, tmp_path):
    source = SOURCES[name]()
    folder = doors.export(source, "transformers", tmp_path / "out").folder
    model = AutoModel.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    batch = words(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == CONTEXT
    seen = batch["attention_mask"][..., None]
    with torch.no_grad():
        found = (model(**batch).last_hidden_state * seen).sum(1) / seen.sum(1)
        first, other = (
            model(**words(one, return_tensors="pt")).last_hidden_state[0, 0] for one in ("ab", "ac")
        )
    expected = mine(source, TEXTS)
    assert torch.allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.01
    # Alone, without padding, transformers goes other ways: the first token sees the last, or does not.
    assert torch.equal(first, other) == (source.backbone.order == "causal")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["ssl_zoo"]) == RECEIPT


@pytest.mark.parametrize(
    "make", [vit, cnn, lambda: cnn("convnext_atto", image_size=64, depths=[1] * 4, dims=[8, 8, 16, 16])]
)
def test_transformers_read_images_with_timms_networks(make, tmp_path):
    source = make()
    folder = doors.export(source, "transformers", tmp_path / "out").folder
    model, prepare = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    x = torch.rand(2, 3, *source.pictures().image_size)
    with torch.no_grad():
        found, ours = model(**prepare(x, return_tensors="pt")), source.backbone(x).pooled
    headed = "convnext" in source.backbone.config["name"]
    pooled = found.last_hidden_state.mean((2, 3)) if headed else found.pooler_output
    assert torch.allclose(pooled, ours, atol=1e-5)


@pytest.mark.parametrize("name", ["both, swiglu", "causal, relu2", "bert", "gpt2"])
def test_sentence_transformers_read_the_same(name, tmp_path):
    source = SOURCES[name]()
    folder = doors.export(source, "sentence-transformers", tmp_path / "out").folder
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == CONTEXT
    found = model.encode(list(TEXTS), convert_to_tensor=True)
    assert torch.allclose(found, mine(source, TEXTS), atol=1e-5)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["ssl_zoo"]) == RECEIPT


@pytest.mark.parametrize("kind", ["bytes", "characters", "uncased"])
def test_a_bag_becomes_a_static_embedding(known, kind, tmp_path):
    torch.manual_seed(0)
    bag = TokenBag(known[kind].vocabulary, 8)
    source = Source(bag.eval(), RECEIPT, known[kind], CONTEXT)
    folder = doors.export(source, "sentence-transformers", tmp_path / "out").folder
    model = SentenceTransformer(str(folder), device="cpu")
    assert type(model[0]).__name__ == "StaticEmbedding"
    texts = [one for one in odd_texts() if one]
    assert torch.allclose(model.encode(texts, convert_to_tensor=True), mine(source, texts), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "to", "said"),
    [
        (vit, "sentence-transformers", "reads texts, and TimmViT images; take to=timm"),
        (lambda: hf("bert", "causal"), "transformers", "take to=onnx or to=torch"),
        (lambda: Source(backbone("transformer"), RECEIPT), "transformers", "comes without a tokenizer"),
        (
            lambda: Source(backbone("bag"), RECEIPT, *text().words()),
            "transformers",
            "no architecture without a trunk.* take to=sentence-transformers",
        ),
    ],
)
def test_what_they_cannot_say_is_refused(make, to, said, tmp_path):
    with pytest.raises(ExportError, match=said):
        doors.export(make(), to, tmp_path / "out")
    assert not [*tmp_path.iterdir()]


def test_a_bag_with_more_around_a_text_is_refused(known, tmp_path):
    source = Source(TokenBag(known["bert"].vocabulary, 8).eval(), RECEIPT, known["bert"], CONTEXT)
    with pytest.raises(ExportError, match="this tokenizer puts others around it"):
        doors.export(source, "sentence-transformers", tmp_path / "out")


def test_a_missing_package_is_named_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setattr(doors, "find_spec", lambda name: None)
    with pytest.raises(
        ExportError, match=r"needs onnx and onnxscript and onnxruntime: pip install 'ssl-zoo\[onnx\]'"
    ):
        doors.export(vit(), "onnx", tmp_path / "out")
    with pytest.raises(ExportError, match="to=tflite is no way out; take timm, transformers"):
        doors.export(vit(), "tflite", tmp_path / "out")
    assert ssl_zoo.export.__name__ == "export"
