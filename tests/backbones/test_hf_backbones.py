"""transformers backbones against their own forward; nothing leaks between packed documents."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.hf import HFBackbone

pytest.importorskip("transformers", reason="the hf extra is not installed")

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZE |= {"max_position_embeddings": 32}
GQA = SIZE | {"num_key_value_heads": 1, "head_dim": 16}
MODELS = {  # name: (fields, the order it has by itself)
    "bert": ({"model_type": "bert", **SIZE}, "both"),
    "roberta": ({"model_type": "roberta", **SIZE}, "both"),
    "distilbert": (
        {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        | {"max_position_embeddings": 32},
        "both",
    ),
    "modernbert": (
        {"model_type": "modernbert", **SIZE, "num_hidden_layers": 4, "local_attention": 6},
        "both",
    ),
    "gpt2": ({"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}, "causal"),
    "llama": ({"model_type": "llama", **SIZE}, "causal"),
    "mistral": ({"model_type": "mistral", **GQA, "sliding_window": 4}, "causal"),
    "gemma3": ({"model_type": "gemma3_text", **GQA, "num_hidden_layers": 6, "sliding_window": 4}, "causal"),
}
VOCABULARY = Vocabulary(64)


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys(), scope="module")
def case(request):
    torch.manual_seed(0)
    fields, order = request.param
    backbone = HFBackbone(config=fields, vocabulary=VOCABULARY).eval()
    with torch.no_grad():  # new weights are so small that tokens hardly see one another
        for weight in backbone.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return backbone, order


def ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 64, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_equals_its_own_forward(case):
    backbone, order = case
    x = ids(2, 16)  # longer than the windows
    want = backbone.model(input_ids=x, output_hidden_states=True)
    got = backbone(x, layers="pooled")
    assert backbone.order == order
    assert backbone.kind == {"causal": "decoder", "both": "encoder"}[order]
    torch.testing.assert_close(got.tokens, want.last_hidden_state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.pooled, want.last_hidden_state.mean(1), rtol=1e-4, atol=1e-5)
    for layer, state in zip(got.layers, want.hidden_states[1:], strict=True):
        torch.testing.assert_close(layer, state.mean(1), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("order", ["causal", "both"])
def test_documents_do_not_leak(case, order):
    backbone, _ = case
    segments = torch.tensor([[0] * 6 + [1] * 7 + [-1] * 3]).expand(3, 16)
    one = ids(1, 16).repeat(3, 1)
    one[1, :6], one[2, 6:13] = ids(1, 6, 1), ids(1, 7, 1)  # A changed, B changed
    got = backbone.encode(backbone.embed(one), None, segments, order=order).tokens
    same = backbone.encode(backbone.embed(one[:1].repeat(3, 1)), None, segments, order=order).tokens
    assert torch.equal(got[1, 6:13], same[1, 6:13])
    assert torch.equal(got[2, :6], same[2, :6])
    assert not torch.equal(got[1, :6], same[1, :6])
    # A packed document is what it is alone: positions start again at 0.
    alone = backbone.encode(backbone.embed(one[:1, 6:13]), order=order)
    torch.testing.assert_close(got[0, 6:13], alone.tokens[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_orders(case):
    backbone, _ = case
    assert backbone.orders == {"both", "causal"}
    x = ids(1, 12)
    y = x.clone()
    y[0, -1] = 3 + (x[0, -1] - 2) % 61
    for order in ("causal", "both"):
        before, after = (backbone.encode(backbone.embed(row), order=order).tokens for row in (x, y))
        assert torch.equal(before[0, :-1], after[0, :-1]) == (order == "causal")
        assert not torch.equal(before[0, -1], after[0, -1])


@torch.no_grad()
def test_windows_are_kept():
    fields, _ = MODELS["mistral"]
    backbone = HFBackbone(config=fields | {"num_hidden_layers": 1}, vocabulary=VOCABULARY).eval()
    x = ids(1, 10)
    y = x.clone()
    y[0, 2] = 3 + (x[0, 2] - 2) % 61
    segments = torch.zeros(1, 10, dtype=torch.long)
    before, after = (backbone(row, segments).tokens for row in (x, y))
    changed = (before != after).any(-1)[0]
    assert changed.tolist() == [2 <= i < 6 for i in range(10)]  # a window of 4 counts the token itself


@torch.no_grad()
def test_positions_are_honoured(case):
    backbone, _ = case
    x = backbone.embed(ids(2, 8))
    start = torch.arange(8).expand(2, 8)
    torch.testing.assert_close(backbone.encode(x).tokens, backbone.encode(x, start).tokens)
    # Attention that sees everyone does not care in which order tokens stand, only where `at` puts them.
    if "sliding_attention" not in backbone.kinds:
        turned = backbone.encode(x.flip(1), start.flip(1)).tokens.flip(1)
        torch.testing.assert_close(turned, backbone.encode(x).tokens, rtol=1e-4, atol=1e-5)
    stretched = backbone.encode(x, start * 2).tokens
    assert not torch.allclose(stretched, backbone.encode(x).tokens, rtol=1e-3, atol=1e-3)


def test_rebuilds_from_config(case):
    backbone, _ = case
    again = HFBackbone(**json.loads(json.dumps(backbone.config))).eval()
    again.load_state_dict(backbone.state_dict())
    x, segments = ids(2, 9), torch.tensor([[0] * 4 + [1] * 5] * 2)
    assert torch.equal(again(x, segments).tokens, backbone(x, segments).tokens)
    assert again.config == backbone.config
    assert again.vocabulary == VOCABULARY
    assert (again.order, again.kind, again.kinds, again.window, again.reach) == (
        backbone.order,
        backbone.kind,
        backbone.kinds,
        backbone.window,
        backbone.reach,
    )


def test_every_parameter_has_a_gradient(case):
    backbone, _ = case
    backbone.train()
    backbone(ids(2, 12)).tokens.square().sum().backward()
    assert [name for name, weight in backbone.named_parameters() if weight.grad is None] == []
    backbone.zero_grad()
    backbone.eval()
    assert len(backbone.blocks()) == backbone.model.config.num_hidden_layers
    assert backbone.word_embedding().weight.shape == (64, 32)


def test_building_leaves_the_generator_and_modes_alone():
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    HFBackbone(config=MODELS["gpt2"][0], vocabulary=VOCABULARY)
    ours = torch.get_rng_state()
    torch.manual_seed(0)
    fields = {k: v for k, v in MODELS["gpt2"][0].items() if k != "model_type"}
    AutoModel.from_config(AutoConfig.for_model("gpt2", vocab_size=64, **fields))
    assert torch.equal(ours, torch.get_rng_state())
    assert HFBackbone(config=MODELS["gpt2"][0], vocabulary=VOCABULARY).training


def test_eager_attention_takes_the_same_masks():
    torch.manual_seed(0)
    fast = HFBackbone(config=MODELS["modernbert"][0], vocabulary=VOCABULARY).eval()
    slow = HFBackbone(**fast.config | {"attention": "eager"}).eval()
    slow.load_state_dict(fast.state_dict())
    segments = torch.tensor([[0] * 6 + [1] * 7 + [-1] * 3])
    got, want = slow(ids(1, 16), segments), fast(ids(1, 16), segments)
    torch.testing.assert_close(got.pooled, want.pooled, rtol=1e-4, atol=1e-5)


def test_local_folder(tmp_path):
    torch.manual_seed(0)
    source = HFBackbone(config=MODELS["bert"][0], vocabulary=VOCABULARY).eval()
    source.model.save_pretrained(tmp_path)
    loaded = HFBackbone(str(tmp_path), pretrained=True, vocabulary=Vocabulary(60)).eval()
    assert torch.equal(loaded(ids(2, 8) % 60).tokens, source(ids(2, 8) % 60).tokens)
    assert loaded.word_embedding().num_embeddings == 64
    assert HFBackbone(**loaded.config).word_embedding().num_embeddings == 64
    fresh = HFBackbone(str(tmp_path), vocabulary=Vocabulary(90))
    assert fresh.word_embedding().num_embeddings == 90
    with pytest.raises(ValueError, match=r"90 ids, but .* has 64 embeddings"):
        HFBackbone(str(tmp_path), pretrained=True, vocabulary=Vocabulary(90))


def test_roberta_counts_from_behind_its_padding():
    backbone = HFBackbone(config=MODELS["roberta"][0] | {"pad_token_id": 1}, vocabulary=Vocabulary(64, pad=1))
    assert (backbone.offset, backbone.max_length) == (2, 30)
    backbone(ids(1, 30))
    with pytest.raises(ValueError, match="31 tokens in a document, but RobertaModel has only 30"):
        backbone(ids(1, 31))


@pytest.mark.parametrize("case", ["bert", "gpt2", "roberta"])
def test_positions_run_out_within_packed_rows_and_not_within_padding(case):
    backbone = HFBackbone(config=MODELS[case][0] | {"pad_token_id": 0}, vocabulary=VOCABULARY).eval()
    most, row = backbone.max_length, ids(1, 2 * backbone.max_length)

    def features(*lengths: int, padding: int = 0) -> torch.Tensor:
        parts = [torch.full((length,), i) for i, length in enumerate(lengths)]
        segments = torch.cat([*parts, torch.full((padding,), -1)])[None]
        return backbone.encode(
            backbone.embed(row[:, : segments.shape[1]]), None, segments, order=backbone.order
        )

    with pytest.raises(ValueError, match=rf"{most + 3} tokens in a document, but .*context={most}"):
        features(most - 3, most + 3)
    with pytest.raises(ValueError, match=f"{most + 1} tokens in a document"):
        features(most + 1, padding=2)
    assert features(most, most).tokens.isfinite().all()
    # Padding may be longer than there are positions: the document before it is what it is alone.
    alone, padded = features(most - 5).pooled, features(most - 5, padding=most + 5).pooled
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)
    tokens = backbone.embed(row[:, :2])
    for outside in (-1, most):
        with pytest.raises(ValueError, match=f"position {outside} is asked for, but .* 0 to {most - 1}"):
            backbone.encode(tokens, torch.tensor([[0, outside]]), order=backbone.order)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "t5"}, "encoder-decoder.*take an encoder"),
        ({"model_type": "bertt"}, "such as bert"),
        ({"hidden_size": 32}, "model_type None is not known"),
        ({"model_type": "albert", **SIZE, "embedding_size": 16}, "16 wide and its trunk 32"),
        ({"model_type": "gpt2", "vocab_size": 9}, "64 ids, but gpt2 has 9"),
    ],
)
def test_refusals(fields, message):
    with pytest.raises(ValueError, match=message):
        HFBackbone(config=fields, vocabulary=VOCABULARY)


def test_a_model_that_turns_other_orders_into_its_own_is_offered_with_that_alone(monkeypatch):
    masks = HFBackbone._masks

    def named_alone(self, segments, order, dtype):
        return masks(self, segments, "causal" if isinstance(order, torch.Tensor) else order, dtype)

    monkeypatch.setattr(HFBackbone, "_masks", named_alone)
    fields, order = MODELS["gpt2"]
    assert HFBackbone(config=fields, vocabulary=VOCABULARY).orders == {order}


def test_refuses_a_model_that_ignores_the_mask():
    """GPT-Neo keeps its own causal mask: it is not offered as bidirectional. Mamba has no mask at all."""
    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]}
    neo = HFBackbone(
        config={"model_type": "gpt_neo", **shape}, vocabulary=VOCABULARY, attention="eager"
    ).eval()
    assert neo.orders == {"causal"}
    with pytest.raises(ValueError, match="cannot be bidirectional"):
        neo.encode(neo.embed(ids(1, 4)), order="both")
    with pytest.raises(ValueError, match="reads in the order 'causal' alone"):
        neo.encode(neo.embed(ids(1, 4)), order=torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="does not take position_ids"):
        HFBackbone(
            config={"model_type": "mamba", "hidden_size": 32}, vocabulary=VOCABULARY, attention="eager"
        )


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'ssl-zoo\[hf\]'"):
        HFBackbone("bert-base-uncased")


@pytest.mark.parametrize("file", ["hf_bert", "hf_gpt2", "hf_llama"])
def test_configs_build(file):
    path = Path(__file__).parents[2] / "configs" / "backbone" / f"{file}.yaml"
    fields = yaml.safe_load(path.read_text())
    assert fields.pop("_target_") == "ssl_zoo.backbones.hf.HFBackbone"
    assert fields.pop("_convert_") == "all"
    backbone = HFBackbone(**fields, vocabulary=VOCABULARY)
    assert backbone.dim == 256
    assert len(backbone.blocks()) == 4
