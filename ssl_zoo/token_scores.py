"""The score of token ids: cross-entropy over a vocabulary of any size, without keeping the logits.

Objectives that predict ids end here. A hidden state (D,) is multiplied by the output matrix (V, D), which is
tied to the word embedding where the widths agree, and is scored against one of the V ids.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.heads import exact, scoring_type
from ssl_zoo.products import PARTS, linear, outer, suits

# Logits held at once, by type of device: 64 MiB in float32 on a CPU; a GPU wants larger products.
HELD = {"cpu": 2**24}
HELD_ELSEWHERE = 2**27
ROWS = 256  # rows at once at least: with fewer, reading the output matrix takes longer than multiplying by it


@exact
def token_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    share: Tensor,
    bias: Tensor | None = None,
    marks: Tensor | None = None,
) -> Tensor:
    """sum_i share_i * -log p(target_i), p = softmax(hidden @ weight.T + bias), without keeping the logits.

    The gradient of a row's logits, p - onehot(target), is known as soon as the row is scored. So a block of
    rows is multiplied by the output matrix, scored, and turned into its part of the gradients at once: three
    products, as for the whole, and nothing is computed again (FusedLinearCrossEntropy of Hsu et al. 2024,
    "Liger Kernel", arXiv:2410.10989).

    Args:
        hidden: (N, D) hidden states to score. weight: (V, D). bias: (V,). target: (N,) int64.
        share: (N,) what each of them counts, of type `scoring_type(hidden)`; it gets no gradient.
        marks: (K, D) or None: further rows of the matrix, which score the targets V to V + K - 1 (`Marks`).
    """
    # Asked here, as within a Function gradients are always off, and every input may seem to need one.
    inputs = (hidden, weight, bias, marks)
    wanted = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    return _TokenCrossEntropy.apply(hidden, weight, bias, marks, target, share, wanted)  # pyright: ignore


def score_tokens(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    scored: Tensor,
    places: float,
    bias: Tensor | None = None,
    marks: Tensor | None = None,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a batch in which some places are scored: the sum of -log p, divided by a constant.

    Were it divided by the number of scored places, a token would count more in one part of a batch than in
    another, as no part knows how many places the others score.

    Args:
        hidden: (N, D). target: (N,) int64. scored: (N,) bool, which places are scored.
        weight, bias, marks: as in `token_cross_entropy`.
        places: how many places are scored where the batch has no padding: a function of its shape alone.
        counts: (N,) what each scored place counts; None: 1.

    Returns:
        The loss; the mean of -log p over the scored places, each as often as it counts, detached; and how
        many they are.
    """
    if hidden.is_cpu and not torch.compiler.is_compiling():  # no device to wait for: score these rows alone
        at = torch.from_numpy(np.flatnonzero(scored.numpy()))
        if len(at) < len(scored):
            hidden, target, scored = (x.index_select(0, at) for x in (hidden, target, scored))
            counts = None if counts is None else counts.index_select(0, at)
    share = scored.to(scoring_type(hidden)) * (1 / places)
    if counts is not None:
        share = share * counts
    loss, count = token_cross_entropy(hidden, weight, target, share, bias, marks), scored.sum()
    return loss, loss.detach() * (places / count.clamp_min(1)), count


class _TokenCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx, hidden, weight, bias, marks, target, share, wanted
    ):
        loss, *gradients = _score(hidden, weight, bias, marks, target, share, wanted)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
        return *(None if part is None else part * g for part in ctx.saved_tensors), None, None, None


def _score(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    marks: Tensor | None,
    target: Tensor,
    share: Tensor,
    gradients: bool,
) -> tuple[Tensor | None, ...]:
    """The sum of `token_cross_entropy`, and its gradients in hidden, weight, bias and marks, block by block.

    A gradient is None where its input is, and all are None unless `gradients`.
    """
    count, v = len(hidden), len(weight)
    quick = suits(hidden[: count // PARTS * PARTS], weight)
    if quick:  # rows that count nothing, so that it stays so
        more = -count % PARTS
        hidden, target, share = (F.pad(x, [0, 0] * (x.ndim - 1) + [0, more]) for x in (hidden, target, share))
    n = len(hidden)
    wide = v + (0 if marks is None else len(marks))
    rows = max(1, min(n, max(ROWS, HELD.get(hidden.device.type, HELD_ELSEWHERE) // wide // PARTS * PARTS)))
    # One piece of memory for all blocks: on a CPU, a fresh one for each would cost as much as its softmax.
    log_p = hidden.new_empty(rows, wide)
    loss = share.new_zeros(())
    d_hidden = torch.empty_like(hidden) if gradients else None
    d_weight = torch.zeros_like(weight) if gradients else None
    d_bias = torch.zeros_like(bias) if gradients and bias is not None else None
    d_marks = torch.zeros_like(marks) if gradients and marks is not None else None
    turned = weight.T.contiguous() if gradients and quick else weight.T
    for start in range(0, n, rows):
        block = slice(start, start + rows)
        h, y, w = hidden[block], target[block, None], share[block, None]
        s, p = linear(h, weight, bias), log_p[: len(h)]
        if marks is not None:  # beside the matrix, which is not copied into a longer one
            s = torch.cat([s, F.linear(h, marks)], 1)
        torch.log_softmax(s, 1, out=p)
        del s
        loss -= (p.gather(1, y) * w).sum()
        if d_hidden is None or d_weight is None:
            continue
        p.exp_().scatter_add_(1, y, p.new_full((1, 1), -1.0).expand_as(y))  # p - onehot(y)
        back = linear(p[:, :v], turned)
        if marks is not None and d_marks is not None:
            back.addmm_(p[:, v:], marks)
            d_marks.addmm_(p[:, v:].T, h * w)
        d_hidden[block] = back * w
        d_weight += outer(p[:, :v], h * w)
        if d_bias is not None:
            d_bias += (p[:, :v] * w).sum(0)
    if d_hidden is not None:
        d_hidden = d_hidden[:count]
    return loss, d_hidden, d_weight, d_bias, d_marks


@exact
@torch.no_grad()
def sample_tokens(hidden: Tensor, weight: Tensor, noise: Tensor, bias: Tensor | None = None) -> Tensor:
    """One id for each row, drawn from softmax(hidden @ weight.T + bias): (N,) int64, without gradient.

    The id drawn is the first at which the running sum of the probabilities exceeds the noise: the inverse of
    the distribution function. The usual maximum of logits plus Gumbel noise would take V numbers a row.

    Args:
        hidden: (N, D). weight: (V, D). bias: (V,). noise: (N,) uniform in [0, 1).
    """
    found = torch.empty(len(hidden), dtype=torch.long, device=hidden.device)
    rows = max(ROWS, HELD.get(hidden.device.type, HELD_ELSEWHERE) // len(weight))
    for start in range(0, len(hidden), rows):
        block = slice(start, start + rows)
        below = F.linear(hidden[block], weight, bias).softmax(1).cumsum(1)  # (rows, V)
        point = noise[block, None] * below[:, -1:]  # rounding: the last sum is not quite 1
        found[block] = torch.searchsorted(below, point, right=True).squeeze(1)
    return found.clamp_max(len(weight) - 1)


class Marks(nn.Embedding):
    """Vectors of signs that no text holds, such as sentinels: they belong to the objective.

    Their ids follow those of the backbone: beside a backbone of V ids, mark k is id V + k. They enter beside
    the backbone's own embeddings and are scored beside the output matrix (`token_cross_entropy(marks=...)`).
    No vocabulary changes, and an exported backbone has no embeddings of them.

    Args:
        count: how many marks there are. dim: width of the backbone.
    """

    def __init__(self, count: int, dim: int):
        super().__init__(count, dim)
        nn.init.normal_(self.weight, std=0.02)  # as the embeddings of the text backbones start

    def embed(self, backbone: TokenBackbone, ids: Tensor) -> Tensor:
        """As `backbone.embed`, for rows that hold marks too: (B, T) int64 -> (B, T, D)."""
        first = backbone.word_embedding().num_embeddings
        marked = ids >= first
        words = backbone.embed(ids.masked_fill(marked, 0))
        return torch.where(marked[..., None], self((ids - first).clamp_min(0)), words)


def output_matrix(backbone: TokenBackbone) -> nn.Embedding | nn.Linear:
    """The module whose weight (V, D) scores ids: the word embedding itself where the widths agree, else a new
    linear layer."""
    words = backbone.word_embedding()
    if words.embedding_dim == backbone.dim:
        return words
    return nn.Linear(backbone.dim, words.num_embeddings, bias=False)
