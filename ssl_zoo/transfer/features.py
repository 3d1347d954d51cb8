"""The one way features are read: online probes, kNN, linear probes, fine-tuning and export all use it.

Image rows arrive as uint8 and become float in [0, 1] at the size the backbone expects; ids pass
through. What a probe reads is `Features.pooled`, always, so no score compares different things.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_zoo.backbones._base import (
    Backbone,
    Features,
    ImageBackbone,
    TokenBackbone,
    as_float,
    pool,
    refuse_out_of_range,
)
from ssl_zoo.data.rows import DataError, Rows, Subset
from ssl_zoo.flops import count
from ssl_zoo.objectives._base import Batch
from ssl_zoo.products import at_full_rate


class FeatureSet(NamedTuple):
    """Features of all rows, on the CPU, in the order of the rows.

    Attributes:
        pooled: (N, D) float32.
        y: labels (N,) int64, or None.
        layers: what is pooled after each block, (N, D_i) each; of a text backbone, before these the mean of
            the embeddings, which is depth 0. () if it was not asked for.
        first: the depth of the first of `layers`: 0, or 1 where they begin after the first block.
    """

    pooled: Tensor
    y: Tensor | None = None
    layers: tuple[Tensor, ...] = ()
    first: int = 1

    def take(self, index: np.ndarray) -> FeatureSet:
        """The features of the rows at `index` (M,) int64, in that order."""
        at = torch.from_numpy(index)
        y = None if self.y is None else self.y[at]
        return FeatureSet(self.pooled[at], y, tuple(layer[at] for layer in self.layers), self.first)


def labels_of(features: FeatureSet) -> Tensor:
    """The labels (N,) of a set that must have them.

    Raises:
        DataError: it has none.
    """
    if features.y is None:
        raise DataError("these features have no labels: rows for a probe need `y`")
    return features.y


def prepare(batch: Batch, backbone: Backbone) -> tuple[Tensor, Tensor | None]:
    """What the backbone takes, from what the rows hold.

    uint8 images (B, C, H, W) become float in [0, 1], resized (antialiased bilinear) to
    `backbone.image_size`; float images must be in [0, 1] already; ids (B, T) pass through.

    Raises:
        DataError: images for a text backbone or the reverse, images of another type or range, or ids beyond
            `backbone.max_length`.
    """
    x, segments = batch.x, batch.segments
    kind = "image" if x.dim() == 4 else "text"
    if kind != backbone.modality:
        raise DataError(
            f"{type(backbone).__name__} reads {backbone.modality}s, but these rows of shape "
            f"{tuple(x.shape)} are {kind}s"
        )
    if kind == "text":
        limit = backbone.max_length if isinstance(backbone, TokenBackbone) else None
        if limit is not None and x.shape[1] > limit:
            raise DataError(
                f"a row holds {x.shape[1]} ids, but {type(backbone).__name__} takes at most {limit}: "
                f"shorten the rows, or build the backbone with a larger max_length"
            )
        return x, segments
    size = backbone.image_size if isinstance(backbone, ImageBackbone) else tuple(x.shape[-2:])
    resize = tuple(x.shape[-2:]) != size
    try:
        if x.is_floating_point() and (resize or x.is_cpu):  # resizing would cut off what is out of range
            refuse_out_of_range(x)
        x = as_float(x)
    except ValueError as error:
        raise DataError(str(error)) from error
    if resize:
        x = F.interpolate(x, list(size), mode="bilinear", antialias=True).clamp(0, 1)
    return x, segments


def forward(backbone: Backbone, batch: Batch, layers: bool = False) -> Features:
    """Features of one batch that lies on the backbone's device, in the mode the backbone is in.

    layers: also the mean of the embeddings of a text backbone that has blocks, and what is pooled after each.
    """
    x, segments = prepare(batch, backbone)
    found = backbone(x, segments, layers="pooled" if layers else None)
    if layers and isinstance(backbone, TokenBackbone) and backbone.modality == "text" and backbone.blocks():
        found = found._replace(layers=(pool(backbone.embed(x), segments), *found.layers))
    return found


def first_depth(backbone: Backbone) -> int:
    """The depth of the first layer that `extract` gives: 0 for the mean of the embeddings of a text."""
    return 0 if isinstance(backbone, TokenBackbone) and backbone.modality == "text" else 1


def trim(batch: Batch) -> Batch:
    """Drop the last columns that are padding in every row. For batches on the CPU: on a GPU it would sync."""
    if batch.segments is None:
        return batch
    used = (batch.segments >= 0).any(0).nonzero()
    width = int(used[-1]) + 1 if len(used) else 1
    return batch._replace(x=batch.x[:, :width], segments=batch.segments[:, :width])


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch on another device, with its second half where it has one."""
    moved = (
        move(part, device)
        if isinstance(part, Batch)
        else part.to(device, non_blocking=True)
        if part is not None
        else None
        for part in batch
    )
    return Batch(*moved)  # pyright: ignore[reportArgumentType]


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters are; the CPU for a module without any."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def place(device: torch.device | str | None) -> torch.device:
    """A device by name; None or "auto" is the first GPU if there is one, else the CPU.

    Raises:
        ValueError: no such device, or none here.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(f"device={device} cannot be used ({reason}); take auto or cpu") from error
    return torch.device(device)


def finite(features: Tensor) -> Tensor:
    """The same features (N, D).

    Raises:
        DataError: some are NaN or infinite.
    """
    fine = sum(int(part.isfinite().all(1).sum()) for part in features.split(2**16))
    if bad := len(features) - fine:
        raise DataError(f"{bad} of {len(features)} feature rows are not finite: did pretraining diverge?")
    return features


@contextmanager
def evaluating(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode on `device`; afterwards every submodule is as it was, and where it was."""
    modes = {part: part.training for part in module.modules()}
    home = device_of(module)
    module.eval().to(device)
    try:
        yield
    finally:
        module.to(home)
        for part, training in modes.items():
            part.training = training


@torch.no_grad()
def row_flops(backbone: Backbone, rows: Rows) -> float:
    """FLOPs of reading the features of one row, as found on the first 64."""
    batch = trim(rows.read(np.arange(min(64, len(rows)))))
    with evaluating(backbone, torch.device("cpu")):
        return count(lambda: forward(backbone, batch)) / len(batch.x)


class Memory:
    """Features that were read before, while `remembering`: of the same weights and the same rows."""

    def __init__(self):
        # The backbone is kept too: no other can then have its id.
        self.found: dict[tuple[int, int, str], tuple[Backbone, FeatureSet]] = {}

    @staticmethod
    def key(backbone: Backbone, rows: Rows) -> tuple[int, int, str]:
        """The object, how often its tensors were written in place, and the fingerprint of the rows."""
        tensors = (*backbone.parameters(), *backbone.buffers())
        return id(backbone), sum(tensor._version for tensor in tensors), rows.fingerprint

    def recall(self, backbone: Backbone, rows: Rows, layers: bool) -> FeatureSet | None:
        """What was read before of these rows, or of the rows that they are a subset of; None for neither."""
        _, known = self.found.get(self.key(backbone, rows), (None, None))
        if known is not None and (known.layers or not layers):
            return known if layers else known._replace(layers=())
        if isinstance(rows, Subset):
            whole = self.recall(backbone, rows.rows, layers)
            return None if whole is None else whole.take(rows.index)
        return None


_memory: ContextVar[Memory | None] = ContextVar("memory", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Within, `extract` reads the same rows with the same weights once, whoever asks for them."""
    token = _memory.set(Memory())
    try:
        yield
    finally:
        _memory.reset(token)


def extract(
    backbone: Backbone,
    rows: Rows,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    layers: bool = False,
) -> FeatureSet:
    """Features of all rows, read in index order, in eval mode and float32, without any noise.

    Args:
        device: where the backbone runs meanwhile (it is put back); None: where it is.
        layers: also keep pooled features of each depth: N * L * D floats of memory.

    Raises:
        DataError: no rows, rows that do not fit the backbone (see `prepare`), features that are not finite.
        ValueError: a device that is not there, or no rows in a batch.
    """
    if not len(rows):
        raise DataError("there are no rows to read features of")
    if batch_size < 1:
        raise ValueError(f"features are read of at least one row at a time, not {batch_size=}")
    memory = _memory.get()
    if memory is not None and (known := memory.recall(backbone, rows, layers)) is not None:
        return known
    where = device_of(backbone) if device is None else place(device)
    pooled: list[Tensor] = []
    labels: list[Tensor] = []
    blocks: list[tuple[Tensor, ...]] = []
    # no_grad, not inference_mode: probes are trained on these tensors.
    with torch.no_grad(), evaluating(backbone, where), at_full_rate(where):
        for start in range(0, len(rows), batch_size):
            batch = trim(rows.read(np.arange(start, min(start + batch_size, len(rows)))))
            features = forward(backbone, move(batch, where), layers)
            pooled.append(features.pooled.float().cpu())
            blocks.append(tuple(layer.float().cpu() for layer in features.layers))
            if batch.y is not None:
                labels.append(batch.y.long())
    y = torch.cat(labels) if labels else None
    kept = tuple(torch.cat(layer) for layer in zip(*blocks, strict=True))
    found = FeatureSet(finite(torch.cat(pooled)), y, kept, first_depth(backbone))
    if memory is not None:
        memory.found[memory.key(backbone, rows)] = backbone, found
    return found
