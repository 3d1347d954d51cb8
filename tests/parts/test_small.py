"""Tokens, schedules, heads, optimizers and sample noise: hand-worked values and second implementations."""

import io
import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from zoo_backbones import backbone, batch, build, pairs

from ssl_zoo import heads, optim, schedules, token_scores
from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.decoders import PatchDecoder
from ssl_zoo.distributed import everybody, gather, mean, total
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Objective, Tune
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.next_token import NextToken
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.tokens import patchify, put, take, unpatchify


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    yield
    free_noise()


# Tokens


def test_take_and_put_by_hand():
    tokens = torch.arange(24).view(2, 4, 3)
    at = torch.tensor([[3, 0], [1, 1]])
    assert take(tokens, at).tolist() == [[[9, 10, 11], [0, 1, 2]], [[15, 16, 17], [15, 16, 17]]]
    assert take(tokens[..., 0], at).tolist() == [[9, 0], [15, 15]]  # (B, N), too
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert put(ids, torch.tensor([[0, 2], [1, 0]]), torch.tensor([[7, 8], [9, 7]])).tolist() == [
        [7, 2, 8],
        [7, 9, 6],
    ]
    assert ids.tolist() == [[1, 2, 3], [4, 5, 6]], "put copies"


def test_put_undoes_take():
    tokens = torch.randn(3, 7, 2, 5)
    at = torch.stack([torch.randperm(7)[:4] for _ in range(3)])
    rows = take(tokens, at)
    assert rows.shape == (3, 4, 2, 5)
    assert torch.equal(put(tokens, at, rows), tokens)
    assert torch.equal(take(put(tokens, at, rows + 1), at), rows + 1)


def test_patchify_cuts_row_by_row_with_channels_last():
    images = torch.randn(2, 3, 8, 12)
    patches = patchify(images, 4)
    assert patches.shape == (2, 6, 48)
    for b in range(2):
        for n in range(6):
            row, column = divmod(n, 3)
            cell = images[b, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(patches[b, n], cell.permute(1, 2, 0).flatten())
    assert torch.equal(unpatchify(patches, 4, 3, 8, 12), images)
    with pytest.raises(ValueError, match="8x12 does not divide into patches of 5"):
        patchify(images, 5)


# Schedules


def test_cosine_by_hand():
    factor = schedules.cosine(warmup=0.1, final=0.2)
    got = [factor(t) for t in (0, 0.05, 0.1, 0.325, 0.55, 1)]
    assert got == pytest.approx([0, 0.5, 1, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 0.6, 0.2])
    assert schedules.cosine(warmup=0)(0) == 1


def test_wsd_by_hand():
    factor = schedules.wsd(warmup=0.1, decay=0.4, final=0.1)
    got = [factor(t) for t in (0, 0.05, 0.1, 0.3, 0.6, 0.7, 0.96, 1)]
    # 1 - sqrt: a quarter into the decay half is gone
    want = [0, 0.5, 1, 1, 1, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * (1 - math.sqrt(0.9)), 0.1]
    assert got == pytest.approx(want)
    assert schedules.wsd(decay=0.0)(1.0) == 1


def test_ramps_between_two_values():
    for t, want in ((0.0, 0.9), (0.25, 1 - 0.1 * (math.sqrt(0.5) + 1) / 2), (0.5, 0.95), (1.0, 1.0)):
        assert schedules.ramp(0.9, 1.0)(t) == pytest.approx(want, abs=1e-12)
    warm = schedules.ramp(0.04, 0.07, "linear", until=0.3)
    for t, want in ((0.0, 0.04), (0.15, 0.055), (0.3, 0.07), (0.9, 0.07)):
        assert warm(t) == pytest.approx(want)
        assert warm(torch.tensor(t)).item() == pytest.approx(want)
        assert schedules.ramp(0, 1)(torch.tensor(t)).item() == pytest.approx(
            schedules.ramp(0, 1)(t), abs=1e-6
        )
    for wrong, said in (({"until": 0.0}, "until is a fraction"), ({"shape": "step"}, "neither cosine")):
        with pytest.raises(ValueError, match=said):
            schedules.ramp(0, 1, **wrong)


def test_schedules_refuse_what_is_no_fraction():
    assert [schedules.constant()(t) for t in (0, 0.3, 1)] == [1, 1, 1]
    for make in (schedules.cosine, schedules.wsd):
        for key, value in (("warmup", 1.0), ("warmup", -0.1), ("final", 1.5)):
            with pytest.raises(ValueError, match=f"{key} is a fraction"):
                make(**{key: value})
    with pytest.raises(ValueError, match="more than the whole training"):
        schedules.wsd(warmup=0.5, decay=0.6)


# Heads


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("block", [1, 10, 37, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_token_cross_entropy_is_the_negative_log_probability(monkeypatch, block, bias, dtype):
    monkeypatch.setattr(token_scores, "ROWS", block)  # 37 rows: the last block is shorter
    monkeypatch.setattr(token_scores, "HELD", {"cpu": 1})
    hidden = torch.randn(37, 16, dtype=dtype, requires_grad=True)
    weight = torch.randn(100, 16, dtype=dtype, requires_grad=True)
    offset = torch.randn(100, dtype=dtype, requires_grad=True) if bias else None
    target, share = torch.randint(100, (37,)), torch.rand(37, dtype=dtype)
    share[5] = 0
    inputs = [x for x in (hidden, weight, offset) if x is not None]
    got = token_scores.token_cross_entropy(hidden, weight, target, share, offset)
    gradients = torch.autograd.grad(got * 3, inputs)

    exact = [x.detach().double().requires_grad_() for x in inputs]
    logits = exact[0] @ exact[1].T + (exact[2] if bias else 0)
    nats = torch.stack([torch.logsumexp(logits[i], 0) - logits[i, target[i]] for i in range(37)])
    want = (nats * share).sum()
    wanted = torch.autograd.grad(want * 3, exact)
    near = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(got.double(), want, rtol=near, atol=near)
    for mine, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=near, atol=near)


def test_token_cross_entropy_under_autocast_scores_in_float32():
    hidden, weight = torch.randn(9, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    target, share, offset = torch.randint(50, (9,)), torch.full((9,), 1 / 9), torch.randn(50)
    with torch.autocast("cpu", torch.bfloat16):
        loss = token_scores.token_cross_entropy(hidden, weight, target, share, offset)
    d_hidden, d_weight = torch.autograd.grad(loss, (hidden, weight))
    assert {loss.dtype, d_hidden.dtype, d_weight.dtype} == {torch.float32}
    plain = token_scores.token_cross_entropy(hidden, weight, target, share, offset)
    assert torch.equal(loss, plain)
    assert torch.equal(d_weight, torch.autograd.grad(plain, weight)[0])
    half = hidden.detach().bfloat16().requires_grad_()
    loss = token_scores.token_cross_entropy(half, weight.bfloat16(), target, share, bias=offset.bfloat16())
    assert loss.dtype == torch.float32
    assert torch.autograd.grad(loss, half)[0].dtype == torch.bfloat16


class Largest(TorchDispatchMode):
    """The most numbers in one result, and how many multiplications matrix products did."""

    def __init__(self):
        super().__init__()
        self.numbers, self.products = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        if func in (torch.ops.aten.mm.out, torch.ops.aten.mm.default):
            self.products += args[0].numel() * args[1].shape[1]
        if func in (torch.ops.aten.addmm.out, torch.ops.aten.addmm_.default):
            self.products += args[1].numel() * args[2].shape[1]
        return result


def test_token_cross_entropy_keeps_one_block_and_computes_nothing_twice(monkeypatch):
    monkeypatch.setattr(token_scores, "ROWS", 8)
    monkeypatch.setattr(token_scores, "HELD", {"cpu": 1})
    n, d, v = 64, 4, 1000
    hidden, weight = torch.randn(n, d, requires_grad=True), torch.randn(v, d, requires_grad=True)
    target, share = torch.randint(v, (n,)), torch.full((n,), 1 / n)
    with Largest() as training:
        token_scores.token_cross_entropy(hidden, weight, target, share).backward()
    assert training.numbers == 8 * v
    assert training.products == 3 * n * d * v
    with Largest() as validating, torch.no_grad():
        token_scores.token_cross_entropy(hidden, weight, target, share)
    assert validating.products == n * d * v


def test_mlp_is_linear_relu_linear():
    head = heads.mlp(4, 8, 3)
    x = torch.randn(5, 4)
    want = head[2](head[0](x).clamp_min(0))
    torch.testing.assert_close(head(x), want)
    assert len(head) == 3
    assert len(heads.mlp(4, 3)) == 1


@torch.no_grad()
def test_patch_decoder_does_not_mind_the_order_of_its_tokens():
    decoder = PatchDecoder(16, 2, 2, 12).eval()
    tokens, order = torch.randn(2, 9, 16), torch.randperm(9)
    got = decoder(tokens)
    assert got.shape == (2, 9, 12)
    torch.testing.assert_close(decoder(tokens[:, order]), got[:, order], rtol=1e-4, atol=1e-5)


def test_patch_decoder_is_a_stack_of_torchs_pre_norm_layers_and_draws_from_any_row_on():
    decoder, tokens = PatchDecoder(16, 2, 4, 12), torch.randn(3, 9, 16)
    x = tokens
    for block in decoder.blocks:
        layer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
        theirs, ours = layer.state_dict(), block.state_dict()
        names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "out."}
        names |= {"linear1.": "mlp.0.", "linear2.": "mlp.2."}
        for name in theirs:
            own = next((name.replace(a, b) for a, b in names.items() if name.startswith(a)), name)
            theirs[name] = ours.pop(own)
        assert not ours
        layer.load_state_dict(theirs)
        x = layer(x)
    whole = decoder.pixels(decoder.norm(x))
    torch.testing.assert_close(decoder(tokens), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(decoder(tokens, 4), whole[:, 4:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(10, 1, 4), (16, 0, 4), (16, 1, 0)])
def test_patch_decoder_refuses(size):
    with pytest.raises(ValueError, match="decoder"):
        PatchDecoder(*size, 12)


# Parameter groups


def split(objective: Objective) -> tuple[set[str], set[str]]:
    """Names that decay, and names that do not."""
    names = {id(p): name for name, p in objective.named_parameters()}
    asked = {objective.tune(name, p).decay for name, p in objective.named_parameters()}
    found: tuple[set[str], set[str]] = (set(), set())
    for group in optim.adamw(objective, weight_decay=0.3).param_groups:
        assert group["weight_decay"] in (0.3, 0.0, *asked)
        found[0 if group["weight_decay"] else 1].update(names[id(p)] for p in group["params"])
    return found


@pytest.mark.parametrize(
    ("cls", "kind"), pairs(), ids=lambda v: v.__name__ if isinstance(v, type) else str(v)
)
def test_every_trainable_parameter_is_in_one_group(cls, kind):
    objective = build(cls, backbone(kind))
    params = [p for g in optim.adamw(objective).param_groups for p in g["params"]]
    assert len(params) == len({id(p) for p in params})
    assert {id(p) for p in params} == {id(p) for p in objective.parameters() if p.requires_grad}
    decayed, spared = split(objective)
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.endswith("bias") or "norm" in name.lower() or ".bn" in name or ".ln_" in name:
            assert name in spared, name
        if parameter.dim() == 4 or name.endswith(("qkv.weight", "fc1.weight", "words.weight")):
            assert name in decayed, name


def test_tokens_and_positions_do_not_decay():
    vit = backbone("vit", class_token=True, reg_tokens=1)
    decayed, spared = split(build(MAE, vit))
    assert {"backbone.model.cls_token", "backbone.model.reg_token", "backbone.model.pos_embed"} <= spared
    assert "blank" in spared
    assert "backbone.model.patch_embed.proj.weight" in decayed
    _, spared = split(build(NextToken, backbone("encoder")))
    assert "backbone.model.embeddings.position_embeddings.weight" in spared
    decayed, spared = split(build(NextToken, backbone("decoder")))
    assert "backbone.model.wpe.weight" in spared
    assert "backbone.model.wte.weight" in decayed


def test_frozen_parameters_are_in_no_group():
    objective = build(SimCLR, backbone("cnn"))
    objective.project.requires_grad_(False)
    assert not any("project" in name for part in split(objective) for name in part)


# Optimizers


class Bare(ImageBackbone):
    """One matrix and one vector."""

    dim, kind, image_size = 2, "cnn", (1, 1)

    def __init__(self):
        super().__init__({})
        self.inner = nn.Linear(2, 2)

    def forward(self, x, segments=None, *, layers=None):
        raise NotImplementedError

    def grid(self, height, width):
        raise NotImplementedError

    def blocks(self):
        return [self.inner]


class Nothing(Objective):
    family, takes = "test", ("cnn",)

    def forward(self, batch):
        raise NotImplementedError


def bare(w: list[list[float]], b: list[float]) -> Nothing:
    objective = Nothing(Bare())
    with torch.no_grad():
        objective.backbone.inner.weight.copy_(torch.tensor(w))
        objective.backbone.inner.bias.copy_(torch.tensor(b))
    return objective


def test_lars_by_hand():
    objective = bare([[3.0, 0.0], [0.0, 4.0]], [1.0, -1.0])
    layer = objective.backbone.inner
    optimizer = optim.lars(objective, lr=0.5, weight_decay=0.1, momentum=0.9, trust=0.01)
    layer.weight.grad = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    layer.bias.grad = torch.tensor([0.2, 0.4])
    optimizer.step()
    # |w| = 5; g + 0.1 w = [[.3, 1], [2, .4]], of norm sqrt(.09 + 1 + 4 + .16) = sqrt(5.25)
    scale = 0.5 * 0.01 * 5 / math.sqrt(5.25)
    velocity = torch.tensor([[0.3, 1.0], [2.0, 0.4]]) * scale
    w = torch.tensor([[3.0, 0.0], [0.0, 4.0]]) - velocity
    torch.testing.assert_close(layer.weight.detach(), w)
    # A vector is neither decayed nor rescaled: 1 - .5 * .2, -1 - .5 * .4
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([0.9, -1.2]))

    layer.weight.grad, layer.bias.grad = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0.0, 1.0])
    optimizer.step()
    g = torch.tensor([[1.0, 0.0], [0.0, 0.0]]) + 0.1 * w
    velocity = 0.9 * velocity + 0.5 * 0.01 * w.norm() / g.norm() * g
    torch.testing.assert_close(layer.weight.detach(), w - velocity)
    # velocities .1 and .2 shrink to .09 and .18, the second gets .5 more
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([0.81, -1.88]))


def test_lars_rescales_without_weight_decay_too():
    objective = bare([[3.0, 0.0], [0.0, 4.0]], [0.0, 0.0])
    layer = objective.backbone.inner
    optimizer = optim.lars(objective, lr=0.5, weight_decay=0.0, trust=0.01)
    layer.weight.grad = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    optimizer.step()
    # lr * trust * |w| / |g| * g = .5 * .01 * 5 / 2 * 2
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[3.0, -0.025], [0.0, 4.0]]))


def test_lars_takes_a_plain_step_from_zero_weights():
    objective = bare([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])
    layer = objective.backbone.inner
    optimizer = optim.lars(objective, lr=0.5, weight_decay=0.1)
    layer.weight.grad = torch.ones(2, 2)
    layer.bias.grad = None
    optimizer.step()
    assert layer.weight.tolist() == [[-0.5, -0.5], [-0.5, -0.5]]
    assert layer.bias.tolist() == [0, 0]


def test_larc_by_hand():
    """Two steps in plain Python, of which the first is clipped to the learning rate and the second is not."""
    objective = bare([[3.0, 0.0], [0.0, 4.0]], [1.0, -1.0])
    layer = objective.backbone.inner
    optimizer = optim.larc(objective, lr=0.5, weight_decay=0.1, momentum=0.9, trust=0.2)
    w, b, v, u = layer.weight.detach().clone(), layer.bias.detach().clone(), 0.0, 0.0
    for g, clipped in ((torch.tensor([[0.0, 0.6], [0.8, 0.0]]), True), (torch.full((2, 2), 4.0), False)):
        layer.weight.grad, layer.bias.grad = g.clone(), torch.tensor([0.2, 0.4])
        optimizer.step()
        rate = 0.2 * w.norm().item() / (g.norm().item() + 0.1 * w.norm().item())
        assert (rate > 0.5) is clipped
        v = 0.9 * v + min(rate, 0.5) / 0.5 * (g + 0.1 * w)
        w = w - 0.5 * v
        torch.testing.assert_close(layer.weight.detach(), w)
        u = 0.9 * u + torch.tensor([0.2, 0.4])  # a vector is neither decayed nor rescaled
        b = b - 0.5 * u
        torch.testing.assert_close(layer.bias.detach(), b)


def test_larc_takes_a_plain_step_from_zero_weights():
    objective = bare([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])
    layer = objective.backbone.inner
    layer.weight.grad = torch.ones(2, 2)
    optim.larc(objective, lr=0.5, weight_decay=0.1).step()
    assert layer.weight.tolist() == [[-0.5, -0.5], [-0.5, -0.5]]


def test_what_an_objective_asks_makes_groups_of_its_own(monkeypatch):
    objective = bare([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0])
    asked = {"backbone.inner.weight": Tune(lr=0.1, constant=True), "backbone.inner.bias": Tune(decay=0.3)}
    monkeypatch.setattr(objective, "tune", lambda name, parameter: asked[name])
    first, second = optim.sgd(objective, lr=0.2, weight_decay=0.05).param_groups
    rates = ("lr", "base_lr", "weight_decay", "base_decay", "matrices", "constant")
    assert [first[key] for key in rates] == pytest.approx([0.02, 0.02, 0.05, 0.05, True, True])
    assert [second[key] for key in rates] == [0.2, 0.2, 0.3, 0.3, False, False]


def test_sgd_and_adamw_are_torchs():
    for make, want in (
        (optim.sgd, lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9)),
        (optim.adamw, lambda g: torch.optim.AdamW(g, lr=0.1, betas=(0.9, 0.95))),
    ):
        one, two = (bare([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0]) for _ in range(2))
        mine = make(one, lr=0.1, weight_decay=0.2)
        layer = two.backbone.inner
        theirs = want(
            [{"params": [layer.weight], "weight_decay": 0.2}, {"params": [layer.bias], "weight_decay": 0.0}]
        )
        for step in range(3):
            for objective in (one, two):
                torch.manual_seed(step)
                for parameter in objective.parameters():
                    parameter.grad = torch.randn_like(parameter)
            mine.step()
            theirs.step()
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(a, b)
        assert all(group["base_lr"] == 0.1 for group in mine.param_groups)


@pytest.mark.parametrize("shape", [(3, 24, 16), (2, 16, 24), (1, 8, 8)])
def test_orthogonal_applies_its_polynomial_to_the_singular_values(shape):
    x = torch.randn(shape, dtype=torch.float64)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(optim.orthogonal(x), u @ torch.diag_embed(s) @ v)


@pytest.mark.parametrize("together", [optim.TOGETHER, 1])
def test_muon_is_torchs_but_for_bfloat16(monkeypatch, together):
    monkeypatch.setattr(optim, "TOGETHER", together)
    shapes = ((12, 4), (12, 4), (4, 4), (4, 12))
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(w.detach().clone()) for w in ours]
    mine = optim.Muon([{"params": ours, "weight_decay": 0.1}], lr=0.1, momentum=0.9)
    other = torch.optim.Muon(theirs, 0.1, 0.1, 0.9, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        if step == 2:  # goes on from torch's state
            mine.load_state_dict(mine.state_dict() | {"state": deepcopy(other.state_dict()["state"])})
        for w, v in zip(ours, theirs, strict=True):
            w.grad = torch.randn(w.shape)
            v.grad = w.grad.clone()
            v.data.copy_(w.data)
        mine.step()
        other.step()
        for w, v in zip(ours, theirs, strict=True):  # bfloat16 has 8 bits; a step moves a number by 0.02
            torch.testing.assert_close(w, v, atol=2e-3, rtol=0)


def gradients(objective: Objective, step: int) -> None:
    seed_noise(0, step)
    torch.manual_seed(step)
    objective.zero_grad()
    objective(batch(objective)).value.backward()


def test_muon_steps_and_its_state_returns():
    one = build(NextToken, backbone("transformer"))
    optimizer = optim.muon(one, lr=0.01)
    names = {id(p): name for name, p in one.named_parameters()}
    muon, adamw = optimizer.parts
    matrices = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert matrices == {
        f"backbone.layers.{i}.{part}.weight"
        for i in range(2)
        for part in ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    }
    assert matrices | rest == set(names.values())
    assert not matrices & rest

    before = {name: p.detach().clone() for name, p in one.named_parameters()}
    for step in range(2):
        gradients(one, step)
        optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in one.named_parameters())

    file = io.BytesIO()
    torch.save({"model": one.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    two = build(NextToken, backbone("transformer", seed=1))
    two.load_state_dict(state["model"])
    again = optim.muon(two, lr=0.5)
    again.load_state_dict(state["optimizer"])
    assert again.param_groups[0]["lr"] == 0.01
    for objective, stepping in ((one, optimizer), (two, again)):
        for group in stepping.param_groups:  # as the trainer does: what it sets must reach the parts
            group["lr"] = group["base_lr"] * 0.5
        gradients(objective, 2)
        stepping.step()
        assert all(group["lr"] == 0.005 for part in stepping.parts for group in part.param_groups)
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q), name
    optimizer.zero_grad()
    assert all(p.grad is None for p in one.parameters())


def test_muon_needs_matrices():
    with pytest.raises(ValueError, match="no matrices"):
        optim.muon(build(SimCLR, backbone("cnn")))


# One process


def test_on_one_process_gather_is_the_identity():
    x = torch.randn(4, 3, requires_grad=True)
    assert gather(x) is x
    assert not everybody(x).requires_grad
    assert torch.equal(everybody(x), x)
    assert torch.equal(total(x), x.detach())
    where = torch.tensor([True, False, True, True])
    assert mean(x[:, 0], where).item() == pytest.approx(x[where, 0].mean().item())
    assert mean(x[:, 0], torch.zeros(4)).item() == 0
