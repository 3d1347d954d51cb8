"""Writing with what was read before kept: the same as reading everything again."""

import pytest
import torch

from ssl_zoo.backbones import stepping
from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.tokenizer import bytes_tokenizer
from ssl_zoo.transfer import reading
from ssl_zoo.transfer.generate import Choice, follow
from ssl_zoo.transfer.reading import Reader, last_states

VOCABULARY = bytes_tokenizer().vocabulary
V, END = VOCABULARY.size, 1
HERE = torch.device("cpu")
PROMPTS = [[END, 70], [END, *range(80, 93)], [END, 5, 6, 7], [END, *range(100, 106)]]


def stirred(backbone, writes, dtype=torch.float32):
    """The backbone with weights far from their start, whose predictions are far from uniform."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for parameter in backbone.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    backbone.order = "causal" if writes == "next" else "both"
    backbone.writes = writes
    return backbone.to(dtype).eval()


def own(writes, dtype=torch.float32, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = TextTransformer(VOCABULARY, width=32, depth=3, **({"heads": 4} | more))
        return stirred(made, writes, dtype)


SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
HF = {
    "gpt2": GPT2,
    "llama": {"model_type": "llama", "num_key_value_heads": 2, **SMALL},
    "mistral": {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 6, **SMALL},
    "roberta": {"model_type": "roberta", "max_position_embeddings": 64, **SMALL},
    "gemma3": {
        **{"model_type": "gemma3_text", "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
        **{"layer_types": ["sliding_attention", "full_attention"] * 2, **SMALL},
    },
}


def decoder(name, attention="sdpa", dtype=torch.float32, writes="next"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return stirred(HFBackbone(config=HF[name], vocabulary=VOCABULARY, attention=attention), writes, dtype)


@pytest.fixture
def read(monkeypatch):
    """How many tokens each call of `encode` or of a kept row was handed."""
    counts = []

    def spy(real):
        def called(self, tokens, *args, **options):
            counts.append(tokens.shape[1])
            return real(self, tokens, *args, **options)

        return called

    monkeypatch.setattr(TextTransformer, "encode", spy(TextTransformer.encode))
    for cls in (stepping.OwnSteps, stepping.HFSteps):
        monkeypatch.setattr(cls, "begin", spy(cls.begin))
    monkeypatch.setattr(stepping.Steps, "go_on", spy(stepping.Steps.go_on))
    return counts


def again(monkeypatch, *args, **options):
    """What `follow` writes where nothing is kept."""
    with monkeypatch.context() as patch:
        patch.setattr(reading, "steps_of", lambda *_: None)
        return follow(*args, **options)


def assert_alike(found, wanted, tolerance=1e-5):
    assert [[step.id for step in run] for run in found] == [[step.id for step in run] for run in wanted]
    for run, other in zip(found, wanted, strict=True):
        assert [one.p for one in run] == pytest.approx([one.p for one in other], rel=tolerance)


@torch.no_grad()
def states_both_ways(backbone, prompts, tokens=20):
    """The last states of rows of drawn ids, read on and read anew: two of (tokens, B, D)."""
    draws = torch.randint(3, V, (len(prompts), tokens), generator=torch.Generator().manual_seed(0))
    rows, inputs = [list(one) for one in prompts], [len(one) for one in prompts]
    every = range(len(rows))
    reader, kept, anew = Reader(backbone, inputs, 99, HERE), [], []
    for t in range(tokens):
        kept.append(reader.last(rows, every))
        anew.append(last_states(backbone, rows, inputs, HERE))
        for row, draw in zip(rows, draws[:, t].tolist(), strict=True):
            row.append(draw)
    assert reader.kept == [*every], "they were kept to the end"
    return torch.stack(kept), torch.stack(anew)


# Our own transformer


@pytest.mark.parametrize("writes", ["next", "prefix", "spans"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("more", [{}, {"kv_heads": 2, "mlp": "relu2"}])
def test_states_are_those_of_reading_again(writes, dtype, tolerance, more):
    backbone = own(writes, dtype, **more)
    kept, anew = states_both_ways(backbone, PROMPTS, tokens=70)  # beyond the room that is made at first
    logits = [code @ backbone.words.weight.T for code in (kept, anew)]
    torch.testing.assert_close(logits[0], logits[1], rtol=tolerance, atol=tolerance * logits[1].std().item())
    assert logits[1].std() > 1


@pytest.mark.parametrize("writes", ["next", "prefix", "spans"])
@pytest.mark.parametrize("choice", [Choice(temperature=0), Choice(seed=2)])
def test_rows_of_any_lengths_are_written_as_before(writes, choice, monkeypatch, read):
    backbone, marks = own(writes), None
    if writes == "spans":
        marks = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
        marks[1] = 0  # ends hardly anything
    options = {"end": END, "never": [0, 2], "marks": marks}
    found = follow(backbone, PROMPTS, 12, 64, choice, **options)
    longest = 14 + 3 * (marks is not None)
    assert read == [longest, *[1] * (max(map(len, found)) - 1)], "the prompts once, and then an id at a time"
    assert len(read) > 4
    assert_alike(found, again(monkeypatch, backbone, PROMPTS, 12, 64, choice, **options))
    for prompt, run in zip(PROMPTS[:1], found[:1], strict=True):  # and alone
        assert_alike([run], follow(backbone, [prompt], 12, 64, choice, **options))


@pytest.mark.parametrize("writes", ["next", "prefix"])
def test_a_row_that_outgrows_its_window_is_read_again_and_others_go_on(writes, monkeypatch, read):
    backbone, choice = own(writes), Choice(temperature=0)
    found = follow(backbone, PROMPTS, 10, 16, choice, end=-1)
    kept = [t for t, count in enumerate(read) if count == 1]
    assert read.count(16) == 7, "of the longest prompt, from 17 ids on"
    assert len(kept) == 9, "the short ones go on"
    assert_alike(found, again(monkeypatch, backbone, PROMPTS, 10, 16, choice, end=-1))
    long = [[END, *range(60, 90)]]  # from the beginning
    assert_alike(
        follow(backbone, long, 4, 16, choice, end=-1),
        again(monkeypatch, backbone, long, 4, 16, choice, end=-1),
    )


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_rows_that_have_ended_are_forgotten(stop, monkeypatch):
    backbone, choice = own("next"), Choice(seed=5)
    end = follow(backbone, PROMPTS, 8, 64, choice, end=-1)[1][stop].id  # then the end for all
    found = follow(backbone, PROMPTS, 8, 64, choice, end=end)
    assert len(found[1]) <= stop + 1 < max(map(len, found))
    assert_alike(found, again(monkeypatch, backbone, PROMPTS, 8, 64, choice, end=end))


def test_each_id_is_told_when_it_is_drawn():
    heard = []
    found = follow(
        own("next"), PROMPTS, 4, 64, Choice(), end=-1, told=lambda row, step: heard.append((row, step))
    )
    assert heard == [(i, found[i][t]) for t in range(4) for i in range(4)]


def test_a_class_of_the_users_own_is_read_again():
    class Mine(TextTransformer):
        """Its `encode` may differ."""

    assert (
        stepping.steps_of(stirred(Mine(VOCABULARY, width=16, depth=1, heads=2), "next"), torch.ones(1))
        is None
    )


# Decoders of transformers


@pytest.mark.parametrize("name", [name for name in HF if name != "roberta"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_decoders_of_transformers_read_on(name, attention, monkeypatch):
    backbone = decoder(name, attention, torch.float64)
    kept, anew = states_both_ways(backbone, PROMPTS)
    # Some of their layers compute in single precision whatever the model's is.
    tolerance = 1e-10 if attention == "sdpa" and name != "gemma3" else 1e-5
    torch.testing.assert_close(kept, anew, rtol=tolerance, atol=tolerance)
    if attention == "sdpa":
        options = {"end": END, "never": [0, 2]}
        found = follow(backbone, PROMPTS, 12, 20, Choice(temperature=0), **options)
        assert_alike(found, again(monkeypatch, backbone, PROMPTS, 12, 20, Choice(temperature=0), **options))


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_a_prefix_is_read_on(name):
    """RoBERTa, an encoder, counts its positions from 1: behind that of the padding."""
    backbone = decoder(name, writes="prefix")
    assert backbone.offset == (name == "roberta")
    kept, anew = states_both_ways(backbone, PROMPTS)
    torch.testing.assert_close(kept, anew, rtol=1e-5, atol=1e-5)


def test_what_keeps_nothing_is_read_again(monkeypatch):
    encoder = HFBackbone(config={"model_type": "modernbert", **SMALL}, vocabulary=VOCABULARY).eval()
    assert not stepping.keeps(encoder), "it takes no cache"
    reader = Reader(stirred(encoder, "prefix"), [2], 99, HERE)
    with torch.no_grad():
        assert reader.last([[END, 7]], [0]).shape == (1, 32)
    assert (reader.steps, reader.kept) == (None, [])
    llama = decoder("llama")
    assert stepping.keeps(llama)
    real = stepping.HFSteps._through
    monkeypatch.setattr(stepping.HFSteps, "_through", lambda self, x, at, mask: real(self, x, at, mask) + 1)
    assert not stepping.keeps(llama), "tried out, it gives something else"


def test_beyond_the_positions_that_there_are_it_is_refused_as_before():
    backbone = decoder("gpt2")
    assert len(follow(backbone, [[END] * 60], 5, 99, Choice(), end=-1)[0]) == 5
    with pytest.raises(DataError, match="a row holds 65 ids, but HFBackbone takes at most 64"):
        follow(backbone, [[END] * 60], 6, 99, Choice(), end=-1)
