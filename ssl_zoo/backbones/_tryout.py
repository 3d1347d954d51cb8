"""Trying out a model of transformers when it is built: which orders, windows and documents it honours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ssl_zoo.backbones.hf import HFBackbone

Named = Literal["both", "causal"]


@torch.no_grad()
def try_out(backbone: HFBackbone) -> tuple[frozenset[Named], Named]:
    """The orders the model honours, and the one it was made for.

    A row of eight fixed ids, and the same row with some of them changed, show who sees whom. A model that
    honours both orders, but not a prefix that sees itself whole before causal tokens, is left with its own
    order.

    Raises:
        ValueError: run from embeddings, the model differs from itself, or it mixes packed documents.
    """
    title = type(backbone.model).__name__
    pad, size = backbone.model.config.pad_token_id, backbone.model.config.vocab_size
    length = min(8, backbone.max_length or 8)
    half = length // 2
    known = torch.tensor([i for i in range(min(size, 64)) if i != pad])
    walk = torch.arange(length) * 5 + 3
    base, other = known[walk % len(known)], known[(walk + 1) % len(known)]
    first, last = torch.arange(length) < half, torch.arange(length) == length - 1
    second = torch.arange(length) == 1
    rows = torch.stack([base, *(base.where(~changed, other) for changed in (first, last, second))])
    prefix = (torch.arange(length) - half + 1).clamp_min(0).expand_as(rows)
    packed = (~first).long().expand_as(rows)
    try:
        backbone.orders = frozenset({"both", "causal"})
        native = match_window(backbone, rows)
        honoured: set[Named] = set()
        for order in ("causal", "both"):
            free = backbone.encode(backbone.embed(rows), order=order).tokens
            apart = backbone.encode(backbone.embed(rows), None, packed, order=order).tokens
            alone = backbone.encode(backbone.embed(rows[:1, ~first]), order=order).tokens
            back = same(free[0, -2], free[2, -2])  # whether the last token stays unseen before it
            past = same(free[0, half], free[1, half])  # whether the token after it misses the first half
            if back == (order == "causal") and not past:
                honoured.add(order)
            leak = not same(apart[0, ~first], apart[1, ~first]) or not same(apart[0, first], apart[2, first])
            if order in honoured and (leak or not same(apart[0, ~first], alone[0])):
                raise ValueError("it does not keep packed documents apart")
        mixed = backbone.encode(backbone.embed(rows), order=prefix).tokens
        if same(mixed[0, 0], mixed[3, 0]) or not same(mixed[0, -2], mixed[2, -2]):
            honoured &= {native}
    except Exception as error:  # whatever a foreign model raises, it means the same here
        raise ValueError(f"{title} cannot be used as a token backbone: {error}") from error
    if native not in honoured:
        raise ValueError(f"{title} cannot be used as a token backbone: it ignores the attention mask")
    return frozenset(honoured), native


def match_window(backbone: HFBackbone, rows: Tensor) -> Named:
    """Set the window with which `encode` equals the model's own forward pass; gives the order of that pass.

    Windows are tried out at a size of 3, because the short row would fit into one of their own size.

    Raises:
        ValueError: no window makes them equal.
    """
    made, window = backbone.model.config, backbone.window
    kept = dict(vars(made))
    slides = "sliding_attention" in backbone.kinds and window is not None
    try:
        if slides:
            made.sliding_window = 3
        theirs = backbone.model(input_ids=rows).last_hidden_state
        order: Named = "causal" if same(theirs[0, :-1], theirs[2, :-1]) else "both"
        # The bound of a window is exclusive in decoders, inclusive in encoders, and some ignore it.
        for backbone.window, backbone.reach in ((3, -1), (3, 0), (None, 0)) if slides else ((window, 0),):
            if same(backbone.encode(backbone.embed(rows), order=order).tokens, theirs, 1e-3):
                backbone.window = backbone.window and window
                return order
    finally:
        vars(made).update(kept)
    raise ValueError("run from embeddings, it does not give what it gives for the same ids")


def same(left: Tensor, right: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal up to rounding, relative to the spread of the values."""
    return bool((left - right).abs().max() <= tolerance * left.std())
