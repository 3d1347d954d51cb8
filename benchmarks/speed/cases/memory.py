"""Memory: peak of the token head, and what stays resident after an epoch from a large store of images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from duel import Gate, Memory
from resident import peak, status
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo import token_scores
from ssl_zoo.data.image_store import ImageRows
from ssl_zoo.data.plan import Plan

IDS, TOKENS, WIDTH = 65_536, 8192, 256
FEW, MANY, BATCH = 10_000, 1_000_000, 256


Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ weight.T, target)


def library(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    share = torch.full((len(hidden),), 1 / len(hidden))
    return token_scores.token_cross_entropy(hidden, weight, target, share)


def torchs(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """torch's own function, from 2.13 on."""
    return F.linear_cross_entropy(hidden, weight, target, options=torch.nn.LinearCrossEntropyOptions())


def head_inputs(ids: int, tokens: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = (0.02 * torch.randn(ids, width)).requires_grad_()
    return hidden, weight, torch.randint(ids, (tokens,))


def head(score: Score, gate: Gate) -> None:
    small = head_inputs(300, 16, WIDTH)
    score(*small).backward()  # what a first call loads is no part of the peak
    inputs = head_inputs(IDS, TOKENS, WIDTH)
    gate.note(mib=peak(lambda: score(*inputs).backward()))
    gate(0)


def store(folder: str, count: int, side: int = 32) -> ImageRows:
    """Random images of so many pixels a side as `image_store` lays them out."""
    path = Path(folder, "images.npy")
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, side, side)}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, count, FEW):
            file.write(random.bytes(min(FEW, count - first) * 3 * side * side))
    return ImageRows(path, np.arange(count), None, (), "random")


def resident(count: int, gate: Gate) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = store(folder, count)
        plan = Plan(count, BATCH, seed=0)
        for step in range(plan.steps_per_epoch):
            rows.read(plan.rows(step))
        gate.note(mib=status("VmRSS"))
    gate(0)


def memory_head() -> Memory:
    sides = {"ssl_zoo": partial(head, library), "all logits": partial(head, plain)}
    asides = ("torch's fused",) if hasattr(F, "linear_cross_entropy") else ()
    sides |= dict.fromkeys(asides, partial(head, torchs))
    return Memory(
        title=f"peak memory of the token head, {TOKENS:,} tokens, {IDS:,} ids, width {WIDTH}, forward and "
        "backward",
        unit="MiB",
        against="all logits and F.cross_entropy",
        sides=sides,
        asides=asides,
        bar=0.25,
        same="inputs, weight, loss and gradients, fp32; what lay in memory before is not counted, the "
        "gradients are",
        differs="ours holds the logits of one block of rows at a time",
        threads=2,
    )


def memory_resident() -> Memory:
    return Memory(
        title=f"memory after an epoch of reads from {MANY:,} images of 32 pixels",
        unit="MiB",
        against=f"the same from {FEW:,} images",
        sides={
            f"{MANY:,} images": partial(resident, MANY),
            f"{FEW:,} images": partial(resident, FEW),
        },
        bar=1.1,
        same="the whole process with torch loaded, random batches of 256, every image read once",
        differs="the number of images",
        threads=1,
    )


CASES = {"memory_head": memory_head, "memory_resident": memory_resident}
