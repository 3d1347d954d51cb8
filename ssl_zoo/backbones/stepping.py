"""Reading on: what a backbone made of earlier tokens is kept, and each new token is read alone.

A token that sees what is before it changes nothing of what is before it. The keys and values of every block
therefore stay those of the first reading, and to read n tokens one after the other takes the work of n tokens
and not that of n texts. What remains of the square are the products of attention alone.

`TextTransformer` is run by its own blocks, whose attention is handed `Kept` in the place of a `Plan`. A
decoder of transformers keeps keys and values in the library's own cache; whether it does is tried out.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_zoo.backbones import hf
from ssl_zoo.backbones._base import Order, TokenBackbone
from ssl_zoo.backbones._tryout import same
from ssl_zoo.backbones.attention import Plan
from ssl_zoo.backbones.fused import rotary
from ssl_zoo.backbones.transformer import TextTransformer

ROOM = 64  # places that are made for keys at first; then their number doubles


class Steps(ABC):
    """Rows of tokens that are read once and then token by token.

    Args:
        counts: (B,) int64 on the backbone's device, how many tokens each row begins with.
    """

    def __init__(self, counts: Tensor):
        self.counts = counts
        self.seen = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]  # (B, T)
        self.whole = bool(self.seen.all())
        self.taken = 0

    @abstractmethod
    def begin(self, tokens: Tensor, order: Order) -> Tensor:
        """Read how rows begin: tokens (B, T, D), padded on the right, -> states (B, T, D).

        order: who sees whom, as in `TokenBackbone.encode`; no token of a row may see what pads it.
        """

    def go_on(self, tokens: Tensor) -> Tensor:
        """Read one more token of each row, which sees all before it: tokens (B, 1, D) -> states (B, 1, D)."""
        self.taken += 1
        return self._go_on(tokens, self.counts[:, None] + (self.taken - 1))

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these: (N,) int64, ascending."""
        self.counts, self.seen = self.counts[rows], self.seen[rows]
        self.whole = bool(self.seen.all())
        self._keep(rows)

    def places(self) -> Tensor:
        """Which of the places read so far hold a token: (B, T + taken) bool."""
        return F.pad(self.seen, (0, self.taken), value=True)

    @abstractmethod
    def _go_on(self, tokens: Tensor, at: Tensor) -> Tensor:
        """at: (B, 1) int64, the position of each token."""

    @abstractmethod
    def _keep(self, rows: Tensor) -> None: ...


class Kept:
    """Keys and values of one block. It is called in the place of a `Plan`, and sees all that was read.

    Attributes:
        plan: by which tokens attend at first; None: each new token sees all that `mask` does not hide.
        mask: (B, 1, 1, S) bool, True where there is a token; None: everywhere.
    """

    def __init__(self, plan: Plan):
        self.plan: Plan | None = plan
        self.mask: Tensor | None = None
        self.count = 0
        self.keys = self.values = torch.empty(0)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """q (B, H, T, d), k and v (B, G, T, d) with G dividing H -> (B, H, T, d)."""
        self._add(k, v)
        if self.plan is not None:
            return self.plan(q, k, v, dropout)
        keys, values = self.keys[:, :, : self.count], self.values[:, :, : self.count]
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, keys, values, self.mask, dropout, enable_gqa=grouped)

    def _add(self, k: Tensor, v: Tensor) -> None:
        b, g, t, d = k.shape
        if not self.count:
            self.keys, self.values = (one.new_empty(b, g, t + ROOM, d) for one in (k, v))
        elif self.count + t > self.keys.shape[2]:
            self.keys, self.values = (
                torch.cat([one, torch.empty_like(one)], dim=2) for one in (self.keys, self.values)
            )
        self.keys[:, :, self.count : self.count + t] = k
        self.values[:, :, self.count : self.count + t] = v
        self.count += t

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


class OwnSteps(Steps):
    """Rows that a `TextTransformer` reads."""

    def __init__(self, backbone: TextTransformer, counts: Tensor):
        super().__init__(counts)
        self.backbone = backbone
        self.kept: list[Kept] = []

    def begin(self, tokens: Tensor, order: Order) -> Tensor:
        plan = Plan(tokens, None, order)
        self.kept = [Kept(plan) for _ in self.backbone.layers]
        states = self._through(tokens, torch.arange(tokens.shape[1], device=tokens.device)[None])
        for one in self.kept:
            one.plan = None
        return states

    def _go_on(self, tokens: Tensor, at: Tensor) -> Tensor:
        mask = None if self.whole else self.places()[:, None, None]
        for one in self.kept:
            one.mask = mask
        return self._through(tokens, at)

    def _through(self, x: Tensor, at: Tensor) -> Tensor:
        turn = rotary(at, self.backbone.head, self.backbone.rope_base)
        for block, kept in zip(self.backbone.layers, self.kept, strict=True):
            x = block(x, turn, kept)
        return self.backbone.norm(x)

    def _keep(self, rows: Tensor) -> None:
        for one in self.kept:
            one.keep(rows)


class HFSteps(Steps):
    """Rows that a decoder of transformers reads. All keys are kept, and a mask hides those out of reach."""

    def __init__(self, backbone: hf.HFBackbone, counts: Tensor):
        super().__init__(counts)
        self.backbone = backbone
        self.cache = hf._transformers().DynamicCache()

    def begin(self, tokens: Tensor, order: Order) -> Tensor:
        alone = torch.zeros(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        at = torch.arange(tokens.shape[1], device=tokens.device).expand_as(alone)
        return self._through(tokens, at, self.backbone._masks(alone, order, tokens.dtype))

    def _go_on(self, tokens: Tensor, at: Tensor) -> Tensor:
        backbone = self.backbone
        full = self.places()[:, None]  # (B, 1, S)
        masks = {"full_attention": full, "sliding_attention": full}
        if "sliding_attention" in backbone.kinds and backbone.window is not None:
            new = self.counts[:, None] + torch.arange(self.taken, device=at.device)
            first = torch.arange(self.seen.shape[1], device=at.device).expand_as(self.seen)
            near = at - torch.cat([first, new], dim=1) <= backbone.window + backbone.reach  # (B, S)
            masks["sliding_attention"] = full & near[:, None]
        found = {kind: masks[kind][:, None] for kind in backbone.kinds}  # (B, 1, 1, S)
        if backbone.model.config._attn_implementation == "eager":
            lowest = torch.finfo(tokens.dtype).min
            found = {
                kind: torch.zeros_like(mask, dtype=tokens.dtype).masked_fill(~mask, lowest)
                for kind, mask in found.items()
            }
        return self._through(tokens, at, found[backbone.kinds[0]] if len(found) == 1 else found)

    def _through(self, tokens: Tensor, at: Tensor, mask: Tensor | dict[str, Tensor]) -> Tensor:
        return self.backbone.model(
            inputs_embeds=tokens,
            attention_mask=mask,
            position_ids=at + self.backbone.offset,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state

    def _keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)


def steps_of(backbone: TokenBackbone, counts: Tensor) -> Steps | None:
    """Rows for this backbone to read on; None for one that keeps nothing, and has to read all anew.

    counts: (B,) int64 on the backbone's device, how many tokens each row begins with.
    """
    if type(backbone) is TextTransformer:
        return OwnSteps(backbone, counts)
    if type(backbone) is hf.HFBackbone and keeps(backbone):
        return HFSteps(backbone, counts)
    return None


@torch.no_grad()
def keeps(backbone: hf.HFBackbone) -> bool:
    """Whether a model of transformers reads on as it reads at once: five tokens, then two, tell."""
    if "past_key_values" not in inspect.signature(backbone.model.forward).parameters:
        return False
    count = min(7, backbone.max_length or 7)
    if count < 3:
        return False
    words = backbone.word_embedding()
    ids = torch.arange(3, 3 + count, device=words.weight.device)[None] % words.num_embeddings
    tokens = backbone.embed(ids)
    order: Order = "causal"
    if "causal" not in backbone.orders:
        return False
    try:
        whole = backbone.encode(tokens, order=order).tokens
        steps = HFSteps(backbone, torch.tensor([count - 2], device=ids.device))
        parts = [steps.begin(tokens[:, :-2], order)]
        parts += [steps.go_on(tokens[:, i : i + 1]) for i in (count - 2, count - 1)]
    except Exception:  # whatever a foreign model raises, it means the same here
        return False
    return same(torch.cat(parts, dim=1), whole, 1e-4)
