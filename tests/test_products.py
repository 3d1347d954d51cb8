"""Products by oneDNN are torch's own, and memory is kept only while it is asked to be."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_zoo import products
from ssl_zoo.products import Linears, at_full_rate, linear, outer, suits
from ssl_zoo.token_scores import token_cross_entropy

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def slow(monkeypatch):
    """Any processor is treated as one on which MKL is slow."""
    monkeypatch.setattr(products, "slow_mkl", lambda: True)


def close(ours, torchs):
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(512, 256), (16, 32, 256), (4, 8, 16, 256)])
def test_a_linear_layer_as_a_convolution_is_itself(shape, bias):
    torch.manual_seed(0)
    x = torch.randn(*shape, requires_grad=True)
    w = torch.randn(192, 256, requires_grad=True)
    b = torch.randn(192, requires_grad=True) if bias else None
    assert suits(x, w)
    leaves = [leaf for leaf in (x, w, b) if leaf is not None]
    ours, torchs = linear(x, w, b), F.linear(x, w, b)
    assert ours.shape == torchs.shape
    assert ours.is_contiguous()
    g = torch.randn_like(torchs)
    close([ours], [torchs])
    close(torch.autograd.grad(ours, leaves, g), torch.autograd.grad(torchs, leaves, g))


def test_the_gradient_has_a_gradient():
    torch.manual_seed(0)
    x, w = torch.randn(256, 256, requires_grad=True), torch.randn(256, 256, requires_grad=True)

    def second(multiply):
        (first,) = torch.autograd.grad(multiply(x, w).tanh().square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [x, w])

    close(second(linear), second(F.linear))


def test_the_gradient_of_a_weight():
    torch.manual_seed(0)
    g, x = torch.randn(512, 300), torch.randn(512, 128)
    wide = torch.randn(512, 310)[:, :300]  # not contiguous
    assert suits(x, g.T)
    close([outer(g, x), outer(wide, x)], [g.T @ x, wide.T @ x])


@pytest.mark.parametrize(
    "x", [torch.randn(250, 512), torch.randn(16, 512), torch.randn(512, 512).double(), torch.randn(512)]
)
def test_what_gains_nothing_is_left_to_torch(x):
    w = torch.randn(512, x.shape[-1], dtype=x.dtype)
    assert not suits(x, w)
    assert linear(x, w).equal(F.linear(x, w))


def test_half_precision_is_left_to_autocast():
    x, w = torch.randn(512, 256), torch.randn(256, 256)
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits(x, w)
        assert linear(x, w).dtype == torch.bfloat16


def test_modules_are_multiplied_so_within_the_context_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(products, "linear", lambda *args: seen.append(args) or F.linear(*args))
    layer, x = nn.Linear(8, 8), torch.randn(4, 8)
    layer(x)
    assert not seen
    with at_full_rate(CPU):
        y = layer(x)
    assert len(seen) == 1
    assert y.equal(layer(x))
    assert len(seen) == 1
    with at_full_rate(torch.device("meta")):
        layer(x)
    assert len(seen) == 1


def test_nothing_changes_where_mkl_is_fast(monkeypatch):
    monkeypatch.setattr(products, "slow_mkl", lambda: False)
    x, layer = torch.randn(512, 256), nn.Linear(256, 256)
    with at_full_rate(CPU):
        assert not suits(x, layer.weight)
        assert layer(x).equal(F.linear(x, layer.weight, layer.bias))


FAULTS = """
import resource, torch
from ssl_zoo.products import HEAP, at_full_rate

def faults():  # pages that the system gives while 64 MiB are made and dropped ten times
    for turn in range(40):  # in the first dozen a heap still grows, by whatever small pieces lie at its end
        if turn == 30:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(2**24).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
with at_full_rate(torch.device("cpu")):
    with at_full_rate(torch.device("cpu")):  # features are read within training
        print(faults())
    print(faults(), HEAP.wanted)
print(HEAP.wanted)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told to keep memory")
def test_memory_is_kept_within_the_context():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, inner, outside, wanted, after = (int(word) for word in done.stdout.split())
    pages = 2**26 // resource.getpagesize()
    assert usual >= 5 * pages
    assert max(inner, outside) < pages
    assert (wanted, after) == (1, 0)


def test_token_scores_of_any_number_of_rows_are_torchs():
    torch.manual_seed(0)
    rows, ids = 611, 4096  # 611: what masks leave is seldom a multiple of anything
    hidden, weight, bias = torch.randn(rows, 64), torch.randn(ids, 64), torch.randn(ids)
    target, share = torch.randint(ids, (rows,)), torch.rand(rows)
    found = []
    for score in (
        token_cross_entropy,
        lambda h, w, y, s, b: (F.cross_entropy(h @ w.T + b, y, reduction="none") * s).sum(),
    ):
        leaves = [leaf.clone().requires_grad_() for leaf in (hidden, weight, bias)]
        loss = score(leaves[0], leaves[1], target, share, leaves[2])
        found.append([loss.detach(), *torch.autograd.grad(loss, leaves)])
    close(*found)


def test_the_mode_sees_what_a_module_calls():
    x, w = torch.randn(512, 256), torch.randn(256, 256)
    with Linears():
        assert F.linear(x, w).equal(linear(x, w))
        close([F.linear(x, w)], [x @ w.T])
        close([F.linear(input=x, weight=w)], [x @ w.T])
