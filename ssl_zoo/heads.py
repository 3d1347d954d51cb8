"""Heads that objectives put on a backbone: projections, prototypes, residual MLPs, scores of classes.

What compares features with something (logits, errors, distances) belongs to the loss, and is computed in
float32 by `exact`. What makes features (trunks, projections, decoders) stays in autocast's type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, Literal, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.norm import BatchNorm1d

P = ParamSpec("P")
R = TypeVar("R")
HALF = (torch.float16, torch.bfloat16)


def exact(loss: Callable[P, R]) -> Callable[P, R]:
    """A decorator: the function is computed in float32 whatever is around it; double precision stays.

    Half-precision tensors among its arguments become float32, and autocast is off inside: otherwise it would
    compute matrix products of them in half precision again. The first argument has to be a tensor.
    """

    @wraps(loss)
    def exactly(*args: P.args, **options: P.kwargs) -> R:
        with torch.autocast(args[0].device.type, enabled=False):  # pyright: ignore
            return loss(*map(_wide, args), **{key: _wide(x) for key, x in options.items()})  # pyright: ignore

    return exactly


def _wide(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype in HALF else x


def scoring_type(hidden: Tensor) -> torch.dtype:
    """The type that `exact` computes in: float32 for half precision, else the tensor's own."""
    return torch.promote_types(hidden.dtype, torch.float32)


@exact
def classification(features: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of linear logits, and the fraction of rows whose largest logit is the target's.

    Args:
        features: (N, D). weight: (C, D). bias: (C,). target: (N,) int64.
    """
    logits = F.linear(features, weight, bias)  # (N, C)
    return F.cross_entropy(logits, target), (logits.argmax(1) == target).float().mean()


@exact
def detection(
    features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of linear logits, summed over what is counted; how many of it are told right.

    Args:
        features: (..., D). weight: (1, D). bias: (1,). target, counted: (...) bool.
    """
    logits = F.linear(features, weight, bias).squeeze(-1)  # (...)
    each = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return (each * counted).sum(), (((logits > 0) == target) & counted).sum()


def mlp(
    *widths: int,
    norm: Literal["batch", "layer"] | None = None,
    act: Literal["relu", "gelu"] = "relu",
    last: Literal["linear", "plain_linear", "batch", "plain_batch"] = "linear",
) -> nn.Sequential:
    """Linear layers of these widths, with a norm and an activation between them.

    Args:
        widths: of the input, of each layer between, and of the output: two at least.
        norm: the norm between the layers; "batch" is over the rows of all processes. A linear layer before a
            batch norm has no bias, which the norm would take away again.
        act: the activation between the layers.
        last: what comes last: a linear layer, with bias or without ("plain_linear"), or a batch norm behind
            it, with scale and shift ("batch") or without ("plain_batch").
    """
    layers: list[nn.Module] = []
    *between, (before, after) = pairwise(widths)
    for narrow, wide in between:
        layers.append(nn.Linear(narrow, wide, bias=norm != "batch"))
        if norm is not None:
            layers.append(BatchNorm1d(wide) if norm == "batch" else nn.LayerNorm(wide))
        layers.append(nn.ReLU(inplace=True) if act == "relu" else nn.GELU())
    layers.append(nn.Linear(before, after, bias=last == "linear"))
    if last.endswith("batch"):
        layers.append(BatchNorm1d(after, affine=last == "batch"))
    return nn.Sequential(*layers)


def bottleneck_head(dim: int, width: int, out: int, norm: Literal["batch"] | None = None) -> nn.Sequential:
    """DINO's projection (Caron et al. 2021, appendix C), also that of iBOT, DINOv2 and MSN: three linear
    layers with GELU between them, (N, dim) -> (N, out). As in their code, weights start as normal numbers of
    deviation 0.02, cut at 2, and biases at 0."""
    head = mlp(dim, width, width, out, norm=norm, act="gelu")
    for layer in (one for one in head if isinstance(one, nn.Linear)):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return head


@exact
def cosines(rows: Tensor, weight: Tensor) -> Tensor:
    """Cosines between rows (N, D) and the rows of a weight (K, D): (N, K)."""
    return F.linear(F.normalize(rows, dim=1), F.normalize(weight, dim=1))


class Prototypes(nn.Module):
    """Learnt directions that rows are compared with: (N, dim) -> cosines (N, count).

    Only the direction of a prototype counts, so nothing has to keep its norm at 1 (SwAV's code normalises
    the weights before each step).

    Args:
        dim: width of the rows. count: how many prototypes there are.
    """

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dim).uniform_(-1, 1) / dim**0.5)

    def forward(self, rows: Tensor, gate: Tensor | float = 1.0) -> Tensor:
        """gate: the share of their gradient that the prototypes get. At 0 they stand still, but they have a
        gradient, which is 0: training in several processes demands one."""
        weight = self.weight.detach() + gate * (self.weight - self.weight.detach())
        return cosines(rows, weight)


class Residual(nn.Module):
    """A module whose input is added to its output."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def token_head(dim: int, width: int, depth: int, out: int) -> nn.Sequential:
    """Residual MLPs that read each token by itself, without biases (AIM, El-Nouby et al. 2024, section 3.2).

    (..., dim) -> (..., out), through `depth` blocks of this width, which are 4 times as wide inside.
    """
    blocks = [
        nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )
        for _ in range(depth)
    ]
    last = [nn.LayerNorm(width), nn.Linear(width, out, bias=False)]
    return nn.Sequential(nn.Linear(dim, width, bias=False), *map(Residual, blocks), *last)


def top_layers(layers: Sequence[Tensor], top: int) -> Tensor:
    """The mean of what the last `top` blocks give, (B, N, D) each, after a norm without parameters over D.

    A target for latent prediction (data2vec, Baevski et al. 2022, section 3.3): (B, N, D), float32 at least.
    """
    return torch.stack([F.layer_norm(h.to(scoring_type(h)), h.shape[-1:]) for h in layers[-top:]]).mean(0)


def top_layers_over_tokens(layers: Sequence[Tensor], top: int) -> Tensor:
    """As `top_layers`, but each feature is normed over the N tokens (instance norm), and the mean over D.

    The target of data2vec 2.0 for images (Baevski et al. 2023, arXiv:2212.07525, section 3.1).
    """
    last = torch.stack([h.to(scoring_type(h)) for h in layers[-top:]])  # (K, B, N, D)
    mean, var = last.mean(2, keepdim=True), last.var(2, correction=0, keepdim=True)
    y = ((last - mean) / (var + 1e-5).sqrt()).mean(0)
    return F.layer_norm(y, y.shape[-1:])
