"""A text backbone read as a language model: p(next id | ids before) = softmax(W h).

A causal backbone predicts the id after any other. One that was pretrained by prefix LM or span corruption
does so after a text that it reads in both directions, and after each id that it has written since.

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

from ssl_zoo.backbones._base import Backbone, Order, TokenBackbone
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.features import evaluating, prepare
from ssl_zoo.transfer.measures import Data
from ssl_zoo.views.hiding import mask_id

HELD = 2**24  # logits held at once: 64 MiB in float32
# What teaches a backbone to write.
TAUGHT = "with objective=next_token, prefix_lm, span_corruption or masked_diffusion"


def language_model(backbone: Backbone) -> TokenBackbone:
    """The same backbone, after a check that it predicts the next token of any text.

    Raises:
        DataError: it does not read text, sees what comes after, or its output matrix is not in the export.
    """
    title = type(backbone).__name__
    if not isinstance(backbone, TokenBackbone) or backbone.modality != "text":
        raise DataError(f"{title} reads {backbone.modality}s: only a text backbone predicts the next token")
    if backbone.writes in ("prefix", "spans"):
        raise DataError(
            f"this {title} reads in both directions what it then goes on from, so that of a text alone it "
            "predicts no token from those before: take one that was pretrained with objective=next_token"
        )
    if backbone.writes != "next":
        raise DataError(
            f"this {title} reads in both directions, so it has no next token to predict: "
            "take one that was pretrained with objective=next_token"
        )
    return tied(backbone)


def writer(backbone: Backbone) -> TokenBackbone:
    """The same backbone, after a check that it writes text, in whichever way (`TokenBackbone.writes`).

    Raises:
        DataError: it does not read text, does not write, its output matrix is not in the export, or it would
            fill in masks and its vocabulary has none.
    """
    title = type(backbone).__name__
    if not isinstance(backbone, TokenBackbone) or backbone.modality != "text":
        raise DataError(f"{title} reads {backbone.modality}s: only a text backbone writes text, {TAUGHT}")
    if backbone.writes is None:
        raise DataError(f"this {title} was not pretrained to write: take one that was, {TAUGHT}")
    if backbone.writes == "masks":
        try:
            mask_id(backbone.vocabulary)
        except ValueError as error:
            raise DataError(str(error)) from error
    return tied(backbone)


def tied(backbone: TokenBackbone) -> TokenBackbone:
    """The same backbone, after a check that its word embedding is its output matrix.

    Raises:
        DataError: it was another one, which is not in the export.
    """
    title = type(backbone).__name__
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


def inputs_first(inputs: Sequence[int], width: int, device: torch.device) -> Tensor:
    """The order of rows [inputs | what is written], as prefix LM and span corruption train it: (B, T) int64.

    It is 0 at the inputs, which see each other, and then 1, 2, ...: each sees the inputs and what was written
    before it. What pads a row on the right is seen by none of these.

    Args:
        inputs: how many ids of each row are its inputs. width: of the rows, T.
    """
    counts = torch.tensor(inputs, device=device)[:, None]
    return (torch.arange(width, device=device) - counts + 1).clamp_min(0)


def states(
    backbone: TokenBackbone,
    x: Tensor,
    segments: Tensor | None = None,
    order: Order = "causal",
    mark: Tensor | None = None,
) -> Tensor:
    """The features from which the id after each one is predicted, or with order "both" the id itself.

    Args:
        x: ids (B, T) on the backbone's device.
        segments: (B, T) int64, the document of each id. Rows that are padded on the right need none where
            no id sees what comes after it.
        order: who sees whom, see `TokenBackbone.encode`.
        mark: (D,) vector that stands where x is V, one more than the last id; None: it stands nowhere.

    Returns:
        (B, T, D).

    Raises:
        DataError: rows longer than the backbone takes.
    """
    x, segments = prepare(Batch(x, segments), backbone)
    if mark is None:
        return backbone.encode(backbone.embed(x), None, segments, order=order).tokens
    marked = x == backbone.word_embedding().num_embeddings
    tokens = torch.where(marked[..., None], mark, backbone.embed(x.masked_fill(marked, 0)))
    return backbone.encode(tokens, None, segments, order=order).tokens


def nats(states: Tensor, weight: Tensor, target: Tensor, never: int | None = None) -> Tensor:
    """-log p(target) at each position: states (N, D), weight (V, D), target (N,) ids -> (N,) float32.

    never: an id whose probability is 0; None: there is none.
    """
    step = max(1, HELD // len(weight))

    def logits(h: Tensor) -> Tensor:
        scores = (h @ weight.T).float()
        if never is None:
            return scores
        return scores.index_fill(1, torch.tensor(never, device=scores.device), -torch.inf)

    parts = [
        F.cross_entropy(logits(h), y, reduction="none")
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
    """-log p of every token of the completions, one after the other: (N,) nats. Prompts are not scored.

    A causal backbone reads prompts causally; one that writes after a prefix or behind the separator reads
    them as its inputs (`inputs_first`).
    """
    device = backbone.word_embedding().weight.device
    width = max(len(one.ids) for one in examples) - 1
    x, target = (torch.zeros(len(examples), width, dtype=torch.int64) for _ in range(2))
    scored = torch.zeros(len(examples), width, dtype=torch.bool)
    for i, (ids, prompt) in enumerate(examples):
        x[i, : len(ids) - 1], target[i, : len(ids) - 1] = torch.tensor(ids[:-1]), torch.tensor(ids[1:])
        scored[i, prompt - 1 : len(ids) - 1] = True
    x, target, scored = x.to(device), target.to(device), scored.to(device)
    order: Order = "causal"
    if backbone.writes != "next":
        order = inputs_first([one.prompt for one in examples], width, device)
    return nats(states(backbone, x, order=order)[scored], backbone.word_embedding().weight, target[scored])


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
