"""Pretrained weights bring their own tokenizer; another one is refused, or asked for."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2Model

from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.compose.composition import ConfigError, build, check
from ssl_zoo.compose.tokenizer import new_tokenizer

TEXTS = ["the cat sat on the mat", "a second text, and a third"] * 20


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    """A folder as transformers leaves it: a small GPT-2, whose vocabulary is padded from 257 to 320 ids."""
    folder = tmp_path_factory.mktemp("models") / "gpt"
    ids = {"bos_token_id": 256, "eos_token_id": 256}
    sizes = {"vocab_size": 320, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    GPT2Model(GPT2Config(**sizes, **ids)).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Library(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|endoftext|>"])
    inner.save(str(folder / "tokenizer.json"))
    return folder


def composed(folder, *words: str):
    words = ("objective=next_token", "data=stdlib", "backbone=hf", f"backbone.name='{folder}'", *words)
    check("pretrain", list(words))
    return build("pretrain", list(words))


def tokenizer_of(cfg):
    return new_tokenizer(cfg, TEXTS, cfg.backbone)


def test_pretrained_weights_bring_their_own_tokenizer(gpt, capsys):
    tokenizer = tokenizer_of(composed(gpt, "backbone.pretrained=true"))
    assert (tokenizer.vocabulary.size, tokenizer.vocabulary.separator) == (257, 256)
    assert f"{gpt}'s own tokenizer" in capsys.readouterr().out
    model = HFBackbone(str(gpt), pretrained=True, vocabulary=tokenizer.vocabulary)
    assert model.word_embedding().num_embeddings == 320
    named = composed(gpt, "backbone.pretrained=true", "tokenizer=pretrained", f"tokenizer.name='{gpt}'")
    assert tokenizer_of(named).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "words", ["tokenizer=bytes", "tokenizer=characters", "tokenizer.size=300", "tokenizer=pretrained"]
)
def test_another_tokenizer_is_refused_unless_asked_for(gpt, words):
    with pytest.raises(ConfigError, match=r"gpt's own tokenizer: .* say backbone\.pretrained=weights"):
        tokenizer_of(composed(gpt, "backbone.pretrained=true", words))


@pytest.mark.parametrize("how", ["weights", "false"])
def test_another_tokenizer_can_be_asked_for(gpt, how):
    tokenizer = tokenizer_of(composed(gpt, f"backbone.pretrained={how}", "tokenizer=bytes"))
    assert tokenizer.vocabulary.size == 259
    kept = HFBackbone(str(gpt), pretrained=how == "weights", vocabulary=tokenizer.vocabulary)
    assert kept.word_embedding().num_embeddings == (320 if how == "weights" else 259)


def test_weights_without_their_tokenizer_are_refused(gpt, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(
        ConfigError, match=r"bare holds no tokenizer\.json.* say backbone\.pretrained=weights"
    ):
        tokenizer_of(composed(bare, "backbone.pretrained=true"))
    with pytest.raises(ValueError, match="take true, weights or false; name=FOLDER"):
        HFBackbone(str(gpt), pretrained="somewhere")


def test_the_command_takes_the_path_of_a_weight_file():
    words = ["objective=rotation", "data=digits", "backbone=timm", "backbone.name=resnet10t"]
    check("pretrain", [*words, "backbone.pretrained=weights.pth"])
    with pytest.raises(ConfigError, match="takes a truth value"):
        check("pretrain", [*words, "backbone.pretrained=3"])
