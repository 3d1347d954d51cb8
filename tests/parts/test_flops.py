"""Counted operations against products worked out by hand."""

import pytest
import torch
from torch import nn

from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import timm_backbone
from ssl_zoo.flops import step_flops
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.masked_lm import MaskedLM
from ssl_zoo.objectives.next_token import NextToken

B, T, D, DEPTH, V = 3, 16, 32, 2, 50


def test_an_mlp():
    """Forward, gradient of the weights, and of the input of all layers but the first."""
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 5, bias=False))
    x = torch.randn(6, 7)
    assert step_flops(lambda: model(x).sum()) == 2 * 6 * (2 * 7 * 11 + 3 * 11 * 5)


def test_a_convolution():
    model = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    x = torch.randn(2, 3, 10, 12)
    assert step_flops(lambda: model(x).square().sum()) == 2 * (2 * 2 * 10 * 12 * 8 * 3 * 3 * 3)


@pytest.mark.parametrize("kv_heads", [None, 1])
@pytest.mark.parametrize("mlp", ["relu2", "swiglu"])
def test_next_token_is_6_n_a_token_and_attention(kv_heads, mlp):
    """N: all matrices, the tied embedding once, as a head. Attention: 2 products forward and 5 backward,
    which makes its scores again. The gain of each norm sums its gradient by a matrix-vector product."""
    objective = NextToken(TextTransformer(Vocabulary(size=V), D, DEPTH, heads=2, kv_heads=kv_heads, mlp=mlp))
    batch = Batch(torch.randint(3, V, (B, T + 1)))
    n = sum(p.numel() for p in objective.parameters() if p.ndim == 2)
    attention = DEPTH * 7 * 2 * B * T * T * D
    norms = (2 * DEPTH + 1) * 2 * B * T * D
    assert step_flops(lambda: objective(batch).value) == 6 * n * B * T + attention + norms


@pytest.mark.parametrize("form", ["addmm_", "baddbmm_", "addmv", "mv"])
def test_forms_that_torchs_counter_leaves_out(form):
    """Each within a hand-written gradient, as token_scores.py and fused.py have them."""

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            a, v = torch.ones(4, 5), torch.ones(5)
            {
                "addmm_": lambda: torch.zeros(4, 6).addmm_(a, torch.ones(5, 6)),
                "baddbmm_": lambda: torch.zeros(3, 4, 6).baddbmm_(torch.ones(3, 4, 5), torch.ones(3, 5, 6)),
                "addmv": lambda: torch.addmv(torch.zeros(4), a, v),
                "mv": lambda: torch.mv(a, v),
            }[form]()
            return x.sum()

        @staticmethod
        def backward(ctx, g):
            return g.expand(2)

    expected = {"addmm_": 4 * 5 * 6, "baddbmm_": 3 * 4 * 5 * 6, "addmv": 4 * 5, "mv": 4 * 5}[form]
    x = torch.ones(2, requires_grad=True)
    assert step_flops(lambda: Product.apply(x)) == 2 * expected


def test_masked_lm_scores_the_masked_rows_alone():
    """What remains when the trunk's share is taken off is 6 V D for each masked token."""
    words = Vocabulary(size=V, pad=0, mask=1)
    objective = MaskedLM(TextTransformer(words, D, DEPTH, heads=2))
    batch = Batch(torch.randint(3, V, (B, T)))
    wide = MaskedLM(TextTransformer(Vocabulary(size=2 * V, pad=0, mask=1), D, DEPTH, heads=2))
    torch.manual_seed(0)
    one = step_flops(lambda: objective(batch).value)
    more = step_flops(lambda: wide(batch).value) - one
    masked, rest = divmod(more, 6 * V * D)
    assert rest == 0
    assert 0 < masked < B * T / 2


class Plain(nn.Module):
    """The images as they are: what is counted does not depend on the crops."""

    def forward(self, x):
        return x.float() / 255


def test_mae_costs_what_it_sees():
    """Work grows with the rows exactly, and with the patches that the encoder is given."""
    vit = timm_backbone(
        "vit_tiny_patch16_224", image_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2
    )
    few, many = (MAE(vit, masked=masked, width=16, depth=1, heads=2, view=Plain()) for masked in (0.75, 0.25))
    x = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    one = step_flops(lambda: few(Batch(x[:4])).value)
    assert step_flops(lambda: few(Batch(x)).value) == 2 * one
    assert step_flops(lambda: many(Batch(x[:4])).value) > 1.2 * one
