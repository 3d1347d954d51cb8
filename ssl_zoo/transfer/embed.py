"""Vectors of all samples of a data set, piece by piece and with their names: any number of them fits.

They are what every probe reads (`features.extract`), in the order in which the samples lie. A damaged image
is left out and named; all else that is wrong stops.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.own import OwnRows
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.data.text_streams import Texts
from ssl_zoo.transfer.features import evaluating, extract
from ssl_zoo.transfer.measures import Images, Subject

IMAGES, TEXTS = 64, 1024  # samples of a piece


class Names(NamedTuple):
    """What samples are called, in order.

    files: that each is from; "" where it has none. rows: its number in that file, or among all rows; None
    where the file holds nothing else. labels: the name of the class of each, or None.
    """

    files: list[str]
    rows: list[int | None]
    labels: list[str] | None


@dataclass
class Account:
    """What was read, and what is to be said of it afterwards.

    Attributes:
        count: samples that were read.
        damaged: what is wrong with each image that was left out.
        cut: texts that were longer than the backbone reads.
    """

    count: int = 0
    damaged: list[str] = field(default_factory=list)
    cut: int = 0

    def lines(self, cut: str = "length=") -> list[str]:
        """Sentences for people: what was left out and what was cut, and `cut`, what says how long is read."""
        found = []
        if self.damaged:
            more = f"; and {len(self.damaged) - 3:,} more" if len(self.damaged) > 3 else ""
            found.append(f"left out {len(self.damaged):,} damaged: {'; '.join(self.damaged[:3])}{more}")
        if self.cut:
            found.append(
                f"{self.cut:,} of {self.count:,} texts are longer than is read, and were cut ({cut})"
            )
        return found


def pieces(
    subject: Subject, data: Images | TextData, split: str, account: Account
) -> Iterator[tuple[Names, Rows]]:
    """The samples of a split in their order: a piece at a time, its names and the rows to read.

    Args:
        account: is told what was read, left out and cut.

    Raises:
        DataError: there is no such split, no sample that can be read, or data of another kind.
    """
    if data.modality != subject.backbone.modality:
        raise DataError(
            f"{type(subject.backbone).__name__} reads {subject.backbone.modality}s, and {data.name} holds "
            f"{data.modality}s"
        )
    if isinstance(data, Texts):
        found, total = text_pieces(subject, data, split, account), None
    else:
        images = data.rows(split)
        found, total = image_pieces(images, account), len(images)
    with tqdm(total=total, unit=f" {data.modality}s", desc=data.name, disable=None, leave=False) as bar:
        for names, rows in found:
            if names.files:
                account.count += len(names.files)
                yield names, rows
                bar.update(len(names.files))
    if not account.count:
        raise DataError(f"{data.name}: nothing could be read. {' '.join(account.lines())}".rstrip())


def vectors(
    subject: Subject,
    data: Images | TextData,
    split: str,
    account: Account,
    *,
    depth: int | None = None,
    normalise: bool = False,
) -> Iterator[tuple[Names, Rows, np.ndarray]]:
    """The names, rows and vectors (n, D) float32 of a split, piece by piece.

    Args:
        account: as of `pieces`.
        depth: the block whose mean over the content is read, from 1; 0 is the mean of a text's embeddings;
            None = what comes out at the end.
        normalise: scale each vector to length 1.

    Raises:
        DataError: as `pieces`, or there is no such depth.
    """
    with evaluating(subject.backbone, subject.device):
        for names, rows in pieces(subject, data, split, account):
            values = read(subject.backbone, rows, depth)
            yield names, rows, (F.normalize(values) if normalise else values).numpy()


def read(backbone: Backbone, rows: Rows, depth: int | None) -> Tensor:
    """The vectors (N, D) of rows; see `vectors`.

    Raises:
        DataError: the backbone has no such depth.
    """
    found = extract(backbone, rows, layers=depth is not None)
    if depth is None:
        return found.pooled
    last = found.first + len(found.layers) - 1
    if not found.first <= depth <= last:
        raise DataError(f"depth={depth}: {type(backbone).__name__} has depths {found.first} to {last}")
    return found.layers[depth - found.first]


def text_pieces(subject: Subject, data: Texts, split: str, account: Account) -> Iterator[tuple[Names, Rows]]:
    """The documents of a split, encoded a piece at a time."""
    stream = data.samples(split)
    while samples := list(islice(stream, TEXTS)):
        rows = DocumentRows([sample.text for sample in samples], subject.words(), subject.length)
        account.cut += rows.cut
        labels = [name for sample in samples if (name := data.name_of(sample.label)) is not None]
        yield Names([one.file for one in samples], [one.row for one in samples], labels or None), rows


def image_pieces(rows: Rows, account: Account) -> Iterator[tuple[Names, Rows]]:
    """Images in the order of their rows. Threads decode ahead; Pillow does so without Python's lock."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[Names, Rows]]] = deque()
        for start in range(0, len(rows), IMAGES):
            index = np.arange(start, min(start + IMAGES, len(rows)))
            waiting.append(pool.submit(image_piece, rows, index, account))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def image_piece(rows: Rows, index: np.ndarray, account: Account) -> tuple[Names, Rows]:
    """The images `index` (n,) of the rows, without damaged ones."""
    try:
        x = rows.read(index).x
    except DataError:
        good: list[int] = []
        images: list[Tensor] = []
        for i in index.tolist():
            try:
                images.append(rows.read(np.array([i])).x)
                good.append(i)
            except DataError as error:
                account.damaged.append(str(error).partition(" (repair")[0])
        index, x = np.array(good, np.int64), torch.cat(images) if images else torch.empty(0)
    name = getattr(rows, "name", None)
    files = [name(i) if name else "" for i in index.tolist()]
    numbers = [None if name else i for i in index.tolist()]
    labels = None if rows.y is None else [rows.classes[y] for y in rows.y[index].tolist()]
    return Names(files, numbers, labels), OwnRows(x.numpy(), None, ())
