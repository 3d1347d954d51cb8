"""What lies at the path that `ssl-zoo worth` is asked about: rows, classes, and at which numbers of labels to
measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from ssl_zoo.compose import composition, evaluation, overrides
from ssl_zoo.compose.asking import composed
from ssl_zoo.compose.composition import ConfigError
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.typed import of_data
from ssl_zoo.data.image_captions import ImageCaptions
from ssl_zoo.data.images import ImageData
from ssl_zoo.data.own import OwnData
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.streams import Stream
from ssl_zoo.data.text import TextData
from ssl_zoo.data.text_pairs import TextPairs
from ssl_zoo.trial.answer import Asked

BUDGETS = (5, 25, 100)  # labels a class
SHARES = (0.05, 0.2)  # of the labels, where a class has fewer than the first of BUDGETS


def look(cfg: DictConfig, words: list[str]) -> Asked:
    """What lies there.

    Raises:
        ConfigError, DataError: no labels, or too few to hold some out.
    """
    fed = of_data(words)
    labelled = fed
    if cfg.labelled is not None:
        labelled = [f"data={overrides.quote(str(cfg.labelled))}"]
        if not Path(cfg.labelled).exists():
            labelled = [f"data={cfg.labelled}"]
        size = [word for word in fed if overrides.split(word).key == "data.image_size"]
        labelled = [*composition.settle("worth", [*labelled, *size])]
    with composed("worth", list(labelled)) as (found, choices):
        data = instantiate(found.data, _convert_="all")
        name = choices["data"]
    if isinstance(data, TextPairs | ImageCaptions):
        raise DataError(f"{data.name} holds pairs: take data of single images or texts, with classes")
    if isinstance(data, Stream):
        raise DataError(f"{data.name} is a stream, whose labels are not read: take data that lies here")
    for split in evaluation.Splits._fields:
        if split not in data.splits():
            raise DataError(f"{data.name} has no {split} split: carve it with data.{split}_fraction=0.2")
    y, chosen_on = labels_of(data, "train"), len(labels_of(data, "validation"))
    counts = np.bincount(y)
    counts = counts[counts > 0]
    if cfg.labels is not None:
        budgets = [one for one in evaluation.listed(cfg.labels) if one is not None]
    elif counts.min() < BUDGETS[0]:
        budgets = list(SHARES)
    else:
        budgets = [n for n in BUDGETS if n <= counts.min() and n < 0.7 * counts.mean()]
    title = data.name
    if cfg.labelled is not None:
        with composed("worth", list(fed)) as (found, choices):
            name, title = choices["data"], instantiate(found.data, _convert_="all").name
    return Asked(
        name=name,
        title=title,
        modality=data.modality,
        fed=tuple(fed),
        labelled=tuple(labelled),
        classes=len(counts),
        rows=len(y),
        chosen_on=chosen_on,
        budgets=(*budgets, None),
        all_labels=float(counts.mean()),
    )


def labels_of(data: ImageData | OwnData | TextData, split: str) -> np.ndarray:
    """(N,) the classes of a split.

    Raises:
        ConfigError: it has none.
    """
    y = data.labels(split) if isinstance(data, TextData) else data.rows(split).y
    if y is None or not data.classes:
        raise ConfigError(
            f"{data.name} has no labels, and worth measures with some: name labelled data of the same kind "
            "with labelled=PATH (class folders, or a table with labels)"
        )
    return y
