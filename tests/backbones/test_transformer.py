"""Our text transformer; and packed documents that never see one another, on every text backbone."""

import inspect
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch.utils.flop_counter import FlopCounterMode
from zoo_backbones import VOCABULARY, backbone

from ssl_zoo.backbones import attention, fused, transformer
from ssl_zoo.backbones._base import TokenBackbone, Vocabulary, attention_mask, pool, segment_positions
from ssl_zoo.backbones.attention import Plan, runs
from ssl_zoo.backbones.hf import HFBackbone
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.compose.composition import config_folder

TEXT = ("transformer", "encoder", "decoder")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def stirred(model):
    """Weights far from their start, where projections are zero and no token sees another."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def own(**changes) -> TextTransformer:
    return stirred(TextTransformer(VOCABULARY, **{"width": 32, "depth": 2, "heads": 4} | changes))


def llama() -> HFBackbone:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = {"model_type": "llama", **size, "intermediate_size": 64, "max_position_embeddings": 128}
    return HFBackbone(config=config, vocabulary=VOCABULARY)


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY.size, shape, generator=torch.Generator().manual_seed(seed))


# Packing


@pytest.mark.parametrize("order", ["causal", "both"])
@pytest.mark.parametrize("cut", [1, 24, 50, 95])
@pytest.mark.parametrize("kind", [*TEXT, "llama"])
@torch.no_grad()
def test_changing_document_a_leaves_document_b_identical_to_the_bit(kind, cut, order):
    """The whole row is changed but B's tokens, and B is read before and after A, in a batch of three."""
    model = stirred(llama() if kind == "llama" else backbone(kind))
    assert isinstance(model, TokenBackbone)
    segments = (torch.arange(96) >= cut).long().repeat(3, 1)
    x = ids(3, 96)
    for kept in (0, 1):
        other = torch.where(segments == kept, x, ids(3, 96, seed=9))
        one, two = (model.encode(model.embed(row), None, segments, order=order) for row in (x, other))
        b = segments == kept
        assert torch.equal(one.tokens[b], two.tokens[b])
        assert not torch.allclose(one.tokens[~b], two.tokens[~b], atol=1e-3)
        # Not because nothing sees anything: within the changed document a token matters to another.
        early = x.clone()
        early[:, 0] = 3 + (early[:, 0] - 2) % (VOCABULARY.size - 3)
        moved = model.encode(model.embed(early), None, segments, order=order).tokens
        assert not torch.allclose(moved[:, cut - 1], one.tokens[:, cut - 1], atol=1e-4)
        assert torch.equal(moved[:, cut:], one.tokens[:, cut:])


@pytest.mark.parametrize("order", ["causal", "both"])
@pytest.mark.parametrize("kind", TEXT)
@torch.no_grad()
def test_a_packed_document_reads_as_it_does_alone(kind, order):
    model = stirred(backbone(kind))
    assert isinstance(model, TokenBackbone)
    x = ids(2, 40)
    segments = torch.tensor([[0] * 11 + [1] * 20 + [2] * 9, [0] * 25 + [1] * 5 + [-1] * 10])
    packed = model.encode(model.embed(x), None, segments, order=order).tokens
    assert packed.isfinite().all(), "padding, too"
    for row in range(2):
        for document in segments[row].unique().tolist():
            if document >= 0:
                place = segments[row] == document
                alone = model.encode(model.embed(x[row : row + 1, place]), order=order).tokens[0]
                torch.testing.assert_close(packed[row, place], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", TEXT)
def test_padding_has_finite_gradients_and_does_not_count(kind):
    model = stirred(backbone(kind))
    assert isinstance(model, TokenBackbone)
    segments = torch.tensor([[0] * 6 + [-1] * 4, [-1] * 10])
    features = model(ids(2, 10), segments)
    assert features.tokens.isfinite().all()
    torch.testing.assert_close(features.pooled[0], features.tokens[0, :6].mean(0))
    assert not features.pooled[1].any(), "a row of padding alone has nothing to pool"
    features.pooled.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_segment_positions_and_pool_by_hand():
    segments = torch.tensor([[0, 0, 0, 1, 1, 2, -1, -1], [5, 5, 4, 4, 4, 4, 4, 5]])
    assert segment_positions(segments).tolist() == [[0, 1, 2, 0, 1, 0, 0, 1], [0, 1, 0, 1, 2, 3, 4, 0]]
    tokens = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pool(tokens, torch.tensor([[0, 0, -1]])).item() == 2.0
    assert pool(tokens).item() == pytest.approx(104 / 3)


@pytest.mark.parametrize("order", ["causal", "both"])
def test_attention_mask_is_the_double_loop(order):
    segments = torch.tensor([[0, 0, 1, 1, 1, -1, -1]])
    mask = attention_mask(segments, order)
    assert mask.shape == (1, 1, 7, 7)
    for i, mine in enumerate(segments[0].tolist()):
        for j, theirs in enumerate(segments[0].tolist()):
            sees = mine == theirs >= 0 and (j <= i or order == "both")
            assert mask[0, 0, i, j].item() == (sees or i == j)


# The two engines of attention


def test_runs_by_hand():
    segments = torch.tensor([[0, 0, 1, 1], [1, 1, 1, -1], [2, 3, 3, 3]])
    # Rows end to end: a run also ends where its row ends, though segment 1 goes on in the next one.
    assert runs(segments).tolist() == [0, 2, 4, 7, 8, 9, 12, 12, 12, 12, 12, 12, 12]
    assert runs(segments).dtype == torch.int32
    assert runs(torch.zeros(2, 3, dtype=torch.long)).tolist() == [0, 3, 6, 6, 6, 6, 6]


def reference_varlen(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1)):
    """What torch's CUDA-only function computes, run by run, by the definition of attention."""
    assert torch.equal(cu_seq_q, cu_seq_k)
    out = torch.full_like(q, float("nan"))
    ends = cu_seq_q.tolist()
    for start, end in pairwise(ends):
        if start == end:
            continue
        assert end - start <= max_q == max_k
        scores = torch.einsum("ihd,jhd->hij", q[start:end], k[start:end]) / q.shape[-1] ** 0.5
        left, right = window_size
        apart = torch.arange(end - start)[None] - torch.arange(end - start)[:, None]  # j - i
        hidden = ((apart > right) & (right >= 0)) | ((apart < -left) & (left >= 0))
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        out[start:end] = torch.einsum("hij,jhd->ihd", weights, v[start:end])
    return out


class ByRuns(Plan):
    """The plan that CUDA in half precision has, anywhere."""

    def __init__(self, like, segments, order):
        super().__init__(like, segments, order)
        if segments is not None:
            self.starts, self.mask = runs(segments), None


@pytest.mark.parametrize("order", ["causal", "both"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@torch.no_grad()
def test_variable_length_attention_equals_the_mask(monkeypatch, kv_heads, order):
    model = own(kv_heads=kv_heads)
    x = ids(3, 20)
    segments = torch.tensor([[0] * 7 + [1] * 13, [0] * 20, [0] * 3 + [1] * 4 + [2] * 8 + [-1] * 5])
    masked = model.encode(model.embed(x), None, segments, order=order)
    monkeypatch.setattr(attention, "varlen_attn", reference_varlen)
    monkeypatch.setattr(transformer, "Plan", ByRuns)
    by_runs = model.encode(model.embed(x), None, segments, order=order)
    real = segments >= 0
    torch.testing.assert_close(by_runs.tokens[real], masked.tokens[real], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_runs.pooled, masked.pooled, rtol=1e-4, atol=1e-5)
    assert by_runs.tokens.isfinite().all()


@pytest.mark.parametrize("order", ["causal", "both"])
@torch.no_grad()
def test_dropout_keeps_documents_apart_where_attention_is_by_runs(monkeypatch, order):
    model = own(dropout=1e-9).train()  # on, and yet it drops nothing
    x, segments = ids(2, 12), torch.tensor([[0] * 5 + [1] * 7, [0] * 8 + [-1] * 4])
    masked = model.encode(model.embed(x), None, segments, order=order)
    monkeypatch.setattr(transformer, "Plan", ByRuns)
    torch.testing.assert_close(model.encode(model.embed(x), None, segments, order=order), masked)


@pytest.mark.skipif(attention.varlen_attn is None, reason="this torch has none: the mask is used")
def test_torch_takes_the_arguments_that_the_reference_takes():
    call = inspect.signature(attention.varlen_attn)
    assert list(call.parameters)[3:7] == ["cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    call.bind(*range(7), window_size=(-1, 0))


@pytest.mark.parametrize("order", ["causal", "both"])
@torch.no_grad()
def test_one_document_needs_no_mask(order):
    model = own()
    x = ids(2, 33)
    free = model.encode(model.embed(x), order=order)
    masked = model.encode(model.embed(x), None, torch.zeros_like(x), order=order)
    torch.testing.assert_close(free.tokens, masked.tokens, rtol=1e-4, atol=1e-5)
    assert Plan(free.tokens, None, order).mask is None


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_long_causal_rows_are_cut_into_bands_that_skip_what_comes_later(monkeypatch, kv_heads):
    t, segments = 37, torch.tensor([[0] * 20 + [1] * 17, [0] * 37])
    q, k, v = (torch.randn(2, heads, t, 8, requires_grad=True) for heads in (2, kv_heads, kv_heads))
    products = {}
    for name, long in (("whole", t + 1), ("bands", t)):
        monkeypatch.setattr(attention, "LONG", long)
        plan = attention.Plan(torch.empty(2, t, 16), segments, order="causal")
        with FlopCounterMode(display=False) as counter:
            out = plan(q, k, v)
        products[name] = counter.get_total_flops()
        grads = torch.autograd.grad(out.square().sum(), (q, k, v))
        if name == "whole":
            whole = (out, *grads)
    for mine, theirs in zip((out, *grads), whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert products["bands"] < 0.65 * products["whole"]


@pytest.mark.parametrize("order", ["causal", "both"])
def test_attention_is_its_definition(order):
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    out = Plan(torch.zeros(2, 5, 8), None, order)(q, k, v)
    for b in range(2):
        for h in range(4):
            for i in range(5):
                reach = range(i + 1) if order == "causal" else range(5)
                scores = torch.stack([q[b, h, i] @ k[b, h // 2, j] / 8**0.5 for j in reach]).softmax(0)
                want = sum(s * v[b, h // 2, j] for s, j in zip(scores, reach, strict=True))
                torch.testing.assert_close(out[b, h, i], want)


# Our transformer


@torch.no_grad()
def test_it_is_causal_or_not_as_it_is_asked():
    model = own()
    x = ids(1, 12)
    y = x.clone()
    y[0, 7] = 3 + (y[0, 7] - 2) % 61
    for order in ("causal", "both"):
        one, two = (model.encode(model.embed(row), order=order).tokens for row in (x, y))
        assert torch.equal(one[0, :7], two[0, :7]) is (order == "causal")
        assert not torch.allclose(one[0, 7:], two[0, 7:], atol=1e-4)
    for model.order in ("causal", "both"):  # `forward` follows the attribute
        want = model.encode(model.embed(x), order=model.order).tokens
        assert torch.equal(model(x).tokens, want)


@torch.no_grad()
def test_positions_are_relative():
    model = own()
    x = ids(2, 16)
    at = torch.stack([torch.arange(16), torch.randperm(16)])
    here = model.encode(model.embed(x), at).tokens
    there = model.encode(model.embed(x), at + 1000).tokens
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)
    stretched = model.encode(model.embed(x), at * 3).tokens
    assert not torch.allclose(here, stretched, atol=1e-2)


@pytest.mark.parametrize("half", [False, True])
def test_rotary_normalises_and_turns_pairs_by_the_angle(half):
    at = torch.tensor([[0, 1, 7]])
    x = torch.randn(1, 3, 1, 4).bfloat16() if half else torch.randn(1, 3, 1, 4)
    close = {"rtol": 2e-2, "atol": 2e-2} if half else {}
    got = fused.unit_rotary(x, fused.rotary(at, 4, 100.0)).float()
    unit = x.float() / x.float().square().mean(-1, keepdim=True).sqrt()
    for t, position in enumerate((0, 1, 7)):
        for pair, rate in enumerate((1.0, 0.1)):
            z = torch.complex(unit[0, t, 0, pair], unit[0, t, 0, pair + 2])
            turned = z * torch.exp(torch.tensor(1j * position * rate))
            torch.testing.assert_close(got[0, t, 0, pair], turned.real, **close)
            torch.testing.assert_close(got[0, t, 0, pair + 2], turned.imag, **close)


def with_gradients(function, *inputs):
    """Output, and gradients of a random projection of it."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = function(*inputs)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return y.detach(), *torch.autograd.grad((y * weights).sum(), inputs)


def test_hand_written_gradients_equal_those_of_torch(monkeypatch):
    x = torch.randn(3, 5, 8, dtype=torch.float64) * 3
    gain = torch.randn(8, dtype=torch.float64)
    norm = fused.RMSNorm(8).double()
    assert fused.by_hand(x)

    def normalised(x, gain):
        return torch.func.functional_call(norm, {"weight": gain}, (x,))

    want = with_gradients(lambda x, w: F.rms_norm(x, (8,), w), x, gain)
    torch.testing.assert_close(with_gradients(normalised, x, gain), want, rtol=1e-12, atol=1e-12)

    want = with_gradients(lambda x: F.relu(x).square(), x)
    torch.testing.assert_close(with_gradients(fused.squared_relu, x), want, rtol=0, atol=0)

    heads = torch.randn(3, 5, 4, 8, dtype=torch.float64)[:, :, 1:]  # as cut from a projection: not contiguous
    angle = torch.randn(1, 5, 1, 4, dtype=torch.float64)
    turn = angle.cos(), angle.sin()
    got = with_gradients(lambda x: fused.unit_rotary(x, turn), heads)
    monkeypatch.setattr(fused, "by_hand", lambda x: False)
    want = with_gradients(lambda x: fused.unit_rotary(x, turn), heads)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_hand_written_gradients_halve_the_passes_over_memory(monkeypatch):
    model = own(mlp="relu2").train()
    x = ids(2, 16)

    def passes() -> int:
        with torch.profiler.profile() as profile:
            model.encode(model.embed(x), order="causal").tokens.sum().backward()
        names = ("mul", "mul_", "add", "addcmul", "addcmul_", "pow", "cat", "div", "neg", "sub", "copy_")
        return sum(e.count for e in profile.key_averages() if e.key in {f"aten::{n}" for n in names})

    ours = passes()
    monkeypatch.setattr(fused, "by_hand", lambda x: False)
    assert ours <= 0.6 * passes()


@torch.no_grad()
def test_rows_may_be_left_out_and_reordered_when_their_positions_are_given():
    model = own()
    tokens = model.embed(ids(2, 16))
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    shuffled = tokens.gather(1, order[..., None].expand_as(tokens))
    got = model.encode(shuffled, order).tokens
    want = model.encode(tokens).tokens.gather(1, order[..., None].expand_as(tokens))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_grouped_queries_are_repeated_heads():
    few, many = own(kv_heads=2), own(kv_heads=4)
    state = few.state_dict()
    for name, weight in state.items():
        if name.endswith("qkv.weight"):  # rows: 4 heads of q, 2 of k, 2 of v, 8 rows each
            q, k, v = weight.split([32, 16, 16])
            k, v = (part.view(2, 8, 32).repeat_interleave(2, 0).reshape(32, 32) for part in (k, v))
            state[name] = torch.cat([q, k, v])
    many.load_state_dict(state)
    x = ids(2, 10)
    torch.testing.assert_close(few(x).tokens, many(x).tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mlp", ["swiglu", "relu2"])
@torch.no_grad()
def test_a_block_is_its_equations(mlp):
    model = own(mlp=mlp, depth=1, heads=2)
    x = ids(1, 6)
    block = model.layers[0]
    h = F.embedding(x, model.words.weight)[0]  # (T, D)

    def rms(v, gain):
        # epsilon of the norm: that of the type, torch's default
        return v / (v.square().mean(-1, keepdim=True) + torch.finfo(v.dtype).eps).sqrt() * gain

    qkv = (rms(h, block.attention_norm.weight) @ block.attention.qkv.weight.T).view(6, 6, 16)
    angle = torch.arange(6)[:, None] * 10_000.0 ** (-torch.arange(8) / 8)

    def turned(v):
        z = torch.complex(*rms(v, 1.0).chunk(2, -1)) * torch.exp(1j * angle)
        return torch.cat([z.real, z.imag], -1)

    mixed = []
    for head in range(2):
        q, k = (turned(qkv[:, i]) for i in (head, 2 + head))
        mixed.append(((q @ k.T) / 4).softmax(-1) @ qkv[:, 4 + head])
    h = h + torch.cat(mixed, -1) @ block.attention.out.weight.T
    up = rms(h, block.mlp_norm.weight) @ block.mlp.up.weight.T
    if mlp == "swiglu":
        gate, up = up.chunk(2, -1)
        up = gate * torch.sigmoid(gate) * up
    else:
        up = up.clamp_min(0) ** 2
    h = h + up @ block.mlp.down.weight.T
    got = model(x, layers="pooled")
    torch.testing.assert_close(got.tokens[0], rms(h, model.norm.weight), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.layers[0][0], h.mean(0), rtol=1e-4, atol=1e-5)


def test_a_new_one_is_the_identity_and_predicts_nothing_yet():
    model = TextTransformer(Vocabulary(100), width=64, depth=3, heads=4).eval()
    x = ids(2, 8)
    assert torch.equal(model(x).tokens, model.norm(model.words(x)))
    loss = F.cross_entropy(model(x).tokens.flatten(0, 1) @ model.words.weight.T, ids(16, seed=1))
    assert loss.item() == pytest.approx(torch.tensor(100.0).log().item(), abs=0.1)


def test_dropout_only_while_training():
    model = own(dropout=0.2)
    x = ids(1, 12)
    assert torch.equal(model(x).tokens, model(x).tokens)
    model.train()
    assert not torch.allclose(model(x).tokens, model(x).tokens, atol=1e-3)
    assert model.encode(model.embed(x), None, torch.zeros_like(x)).tokens.isfinite().all()


@pytest.mark.parametrize(
    ("name", "million"), [("transformer_micro", 0.8), ("transformer_mini", 4.7), ("transformer_base", 85)]
)
def test_parameter_counts(name, million):
    """Those that the YAML files state, and the sum of the shapes."""
    about = yaml.safe_load((config_folder() / "backbone" / f"{name}.yaml").read_text())
    about.pop("_target_")
    with torch.device("meta"):
        model = TextTransformer(VOCABULARY, **about)
    width, depth = about["width"], about["depth"]
    hidden = {"relu2": 4 * width, "swiglu": -(-8 * width // 24) * 8}[about["mlp"]]
    mlp = width * hidden * {"relu2": 2, "swiglu": 3}[about["mlp"]]
    trunk = depth * (4 * width * width + mlp + 2 * width) + width
    count = sum(p.numel() for p in model.parameters())
    assert count == trunk + VOCABULARY.size * width
    assert trunk / 1e6 == pytest.approx(million, rel=0.05)
    assert hidden % 8 == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 30, "heads": 4}, "take a width divisible by 8"),
        ({"width": 12, "heads": 4}, "take a width divisible by 8"),
        ({"heads": 4, "kv_heads": 3}, "heads 4 is not a multiple of kv_heads 3"),
        ({"heads": 0}, "must be 1 or more"),
        ({"heads": 4, "kv_heads": -1}, "must be 1 or more"),
        ({"mlp": "gelu"}, "choose swiglu or relu2"),
        ({"dropout": 1.0}, r"not in \[0, 1\)"),
    ],
)
def test_refusals_say_what_would_work(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextTransformer(VOCABULARY, **{"width": 32, "heads": 4} | arguments)


def test_it_names_what_it_has_not():
    vit = backbone("vit")
    assert isinstance(vit, TokenBackbone)
    with pytest.raises(TypeError, match="not a text backbone"):
        vit.word_embedding()


# Any order


def see(model: TokenBackbone, order, segments=None, length: int = 12) -> torch.Tensor:
    """Which token's features change with which token's id: (T, T) bool, reader by read, of one row."""
    x = ids(1, length).repeat(length + 1, 1)
    for j in range(length):
        x[j + 1, j] = 3 + (x[0, j] - 2) % 61
    if isinstance(order, torch.Tensor):
        order = order.expand(length + 1, -1)
    if segments is not None:
        segments = segments.expand(length + 1, -1)
    tokens = model.encode(model.embed(x), None, segments, order=order).tokens
    return (tokens[1:] != tokens[:1]).any(-1).T


@pytest.mark.parametrize("kind", [*TEXT, "llama"])
@torch.no_grad()
def test_an_order_says_who_sees_whom(kind):
    """Causal, both, a prefix, packed prefixes and a permutation, each from one rule."""
    model = stirred(llama() if kind == "llama" else backbone(kind))
    assert isinstance(model, TokenBackbone)
    index, rank = torch.arange(12), torch.randperm(12)
    one, two = torch.zeros(1, 12, dtype=torch.long), torch.tensor([[0] * 5 + [1] * 7])
    prefix, prefixes = (index - 3).clamp_min(0), torch.tensor([0, 0, 1, 2, 3, 0, 0, 0, 1, 2, 3, 4])
    for order, segments in ((index, one), (one[0], one), (prefix, one), (prefixes, two), (rank, one)):
        want = torch.tensor(
            [
                [bool(order[j] <= order[i] and segments[0, i] == segments[0, j]) for j in range(12)]
                for i in range(12)
            ]
        )
        assert torch.equal(see(model, order[None], segments), want)
    x, segments = ids(3, 20), torch.tensor([[0] * 7 + [1] * 9 + [-1] * 4]).repeat(3, 1)
    for name, order in (("causal", torch.arange(20)), ("both", torch.zeros(20, dtype=torch.long))):
        for documents in (None, segments):
            tokens = model.embed(x)
            want = model.encode(tokens, None, documents, order=name).tokens
            got = model.encode(tokens, None, documents, order=order.expand(3, -1)).tokens
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_narrow_one_is_a_fraction_of_it():
    model = own(width=64, heads=8, kv_heads=4)
    small = model.smaller(0.25)
    assert (small.dim, small.config["heads"], small.config["kv_heads"]) == (16, 2, 1)
    assert (len(small.blocks()), small.vocabulary) == (2, VOCABULARY)
    for kind in ("encoder", "decoder"):
        model = backbone(kind)
        assert isinstance(model, HFBackbone)
        small = model.smaller(0.5)
        assert (small.dim, small.kind, small.orders) == (model.dim // 2, kind, model.orders)
        assert small(ids(2, 9)).tokens.shape == (2, 9, model.dim // 2)
    small = llama().smaller(0.5)
    assert (small.model.config.num_attention_heads, small.model.config.num_key_value_heads) == (2, 1)
