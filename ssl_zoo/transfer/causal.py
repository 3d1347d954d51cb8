"""A causal backbone read as a language model: p(next id | ids before) = softmax(W h).

W is the word embedding, as in pretraining (Press & Wolf 2017; see `objectives.next_token`), so an exported
backbone holds all that is needed. Where the widths differ, W was a matrix that the export lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.backbones._base import Backbone, TokenBackbone
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.features import evaluating, prepare
from ssl_zoo.transfer.measures import Data

HELD = 2**24  # logits held at once: 64 MiB in float32


def language_model(backbone: Backbone) -> TokenBackbone:
    """The same backbone, after a check that it predicts the next token.

    Raises:
        DataError: it does not read text, sees what comes after, or its output matrix is not in the export.
    """
    title = type(backbone).__name__
    if not isinstance(backbone, TokenBackbone) or backbone.modality != "text":
        raise DataError(f"{title} reads {backbone.modality}s: only a text backbone predicts the next token")
    if backbone.order != "causal":
        raise DataError(
            f"this {title} reads in both directions, so it has no next token to predict: "
            "take one that was pretrained with objective=next_token"
        )
    width = backbone.word_embedding().embedding_dim
    if width != backbone.dim:
        raise DataError(
            f"the word embeddings of {title} are {width} wide and its features {backbone.dim}: it was "
            "pretrained with an output matrix of its own, which an exported backbone does not hold"
        )
    return backbone


def running_text(data: Data) -> TextData:
    """The same data, after a check that it can be read as packed rows.

    Raises:
        DataError: images or pairs of sentences.
    """
    if not isinstance(data, TextData):
        raise DataError(f"{data.name} is not running text: give a TextData, such as enwiki or books")
    return data


def states(backbone: TokenBackbone, x: Tensor, segments: Tensor | None = None) -> Tensor:
    """The features from which the id after each one is predicted.

    Args:
        x: ids (B, T) on the backbone's device.
        segments: (B, T) int64, the document of each id. Rows that are padded on the right need none, because
            no id sees what comes after it.

    Returns:
        (B, T, D).

    Raises:
        DataError: rows longer than the backbone takes.
    """
    x, segments = prepare(Batch(x, segments), backbone)
    return backbone.encode(backbone.embed(x), None, segments, order="causal").tokens


def nats(states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """-log p(target) at each position: states (N, D), weight (V, D), target (N,) ids -> (N,) float32."""
    step = max(1, HELD // len(weight))
    parts = [
        F.cross_entropy((h @ weight.T).float(), y, reduction="none")
        for h, y in zip(states.split(step), target.split(step), strict=True)
    ]
    return torch.cat(parts)


class Example(NamedTuple):
    """One prompt with its completion, as ids.

    Attributes:
        ids: those of the prompt, then those of the completion.
        prompt: how many of them are the prompt's.
    """

    ids: list[int]
    prompt: int


def completion_nats(backbone: TokenBackbone, examples: Sequence[Example]) -> Tensor:
    """-log p of every token of the completions, one after the other: (N,) nats. Prompts are not scored."""
    device = backbone.word_embedding().weight.device
    width = max(len(one.ids) for one in examples) - 1
    x, target = (torch.zeros(len(examples), width, dtype=torch.int64) for _ in range(2))
    scored = torch.zeros(len(examples), width, dtype=torch.bool)
    for i, (ids, prompt) in enumerate(examples):
        x[i, : len(ids) - 1], target[i, : len(ids) - 1] = torch.tensor(ids[:-1]), torch.tensor(ids[1:])
        scored[i, prompt - 1 : len(ids) - 1] = True
    x, target, scored = x.to(device), target.to(device), scored.to(device)
    return nats(states(backbone, x)[scored], backbone.word_embedding().weight, target[scored])


def read_packed(
    backbone: TokenBackbone,
    rows: Rows,
    device: torch.device,
    keep: Callable[[Batch], Tensor] | None = None,
    batch_size: int = 32,
) -> Tensor:
    """The loss of each token of packed rows with a lookahead of 1: (N, T) nats on the CPU.

    Column t holds -log p(id t + 1 | ids 0..t of the same document), as pretraining scores it.

    Args:
        keep: batch -> (B,) bool, the rows to score; None: all of them.

    Raises:
        DataError: `keep` leaves no rows.
    """
    found: list[Tensor] = []
    with torch.no_grad(), evaluating(backbone, device):
        weight = backbone.word_embedding().weight
        for start in range(0, len(rows), batch_size):
            batch = rows.read(np.arange(start, min(start + batch_size, len(rows))))
            x, segments = batch.x, batch.segments
            if keep is not None:
                kept = keep(batch)
                x, segments = x[kept], None if segments is None else segments[kept]
            if not len(x):
                continue
            x, seen = x.to(device), None if segments is None else segments[:, :-1].to(device)
            code = states(backbone, x[:, :-1], seen)  # (B, T, D)
            found.append(nats(code.flatten(0, 1), weight, x[:, 1:].flatten()).view(len(x), -1).cpu())
    if not found:
        raise DataError(f"none of the {len(rows)} packed rows can be scored: give longer documents")
    return torch.cat(found)
