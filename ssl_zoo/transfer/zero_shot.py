"""What two towers in one space can do without a label: name classes, and find each other's halves.

Zero-shot classification (Radford et al. 2021, section 3.1): the vector of a class is the mean of the unit
vectors of its captions, its name in each template; an image is of the class whose vector is nearest.
Retrieval: is an image's own caption the nearest of all, and a caption's own image?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar
from typing import Protocol as Interface

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.backbones._base import Backbone
from ssl_zoo.data.captions import TEMPLATES, Captioned, filled, named
from ssl_zoo.data.rows import DataError, Rows
from ssl_zoo.data.text_rows import DocumentRows
from ssl_zoo.transfer.features import extract
from ssl_zoo.transfer.measures import Measured, Subject
from ssl_zoo.transfer.metrics import refuse_one_class, score, true_labels
from ssl_zoo.transfer.report import wilson
from ssl_zoo.transfer.retrieval import own_rank


class Aligned(Interface):
    """Two towers, and what takes the `Features.pooled` of each to unit vectors of one space."""

    backbone: Backbone
    text: Backbone

    def image_vectors(self, pooled: Tensor) -> Tensor: ...

    def text_vectors(self, pooled: Tensor) -> Tensor: ...


@torch.no_grad()
def vectors(tower: Backbone, head: Callable[[Tensor], Tensor], rows: Rows, device: torch.device) -> Tensor:
    """Unit vectors (N, D) of rows, on the CPU."""
    return head(extract(tower, rows, device=device).pooled)


@dataclass(frozen=True)
class ZeroShot:
    """Classification of the test images by captions of the class names; nothing is fitted or chosen.

    Beside the accuracy it tells `chance`, one in so many classes, and in the details the 95 % `interval` over
    test rows.

    Args:
        templates: texts with {} where the class name goes; None takes those of `data.captions`.
    """

    name: ClassVar[str] = "zero_shot"
    stochastic: ClassVar[bool] = False
    templates: Sequence[str] | None = None

    def begin(self, subject: Subject, data: Any, seed: int) -> Callable[[Any], Measured]:
        """Raises DataError: a run without a text tower, texts, or images without class names."""
        pair: Aligned = subject.towers()
        if data.modality != "image":
            raise DataError(f"zero-shot classification is of images, and {data.name} holds {data.modality}s")
        texts = [filled(name, self.templates or TEMPLATES) for name in named(data)]
        rows = DocumentRows(chain.from_iterable(texts), subject.words(), subject.length)
        found = vectors(pair.text, pair.text_vectors, rows, subject.device)
        classes = F.normalize(found.unflatten(0, (len(texts), -1)).mean(1), dim=1)  # (C, D)

        def finish(opened: Any) -> Measured:
            rows = opened.labelled("test")
            truth = true_labels(rows, "test")
            refuse_one_class(truth, rows, "test")
            images = vectors(pair.backbone, pair.image_vectors, rows, subject.device)
            guess, y = (images @ classes.T).argmax(1), torch.from_numpy(truth)
            accuracy = score("accuracy", guess, y, len(classes))
            others = {"macro_f1": score("macro_f1", guess, y, len(classes)), "chance": 1 / len(classes)}
            return Measured(
                "accuracy", accuracy, others, details={"interval": wilson(accuracy, len(y))}, test=len(y)
            )

        return finish


@dataclass(frozen=True)
class PairRetrieval:
    """Recall among the test pairs, the mean of both ways; of several captions of an image, one is drawn.

    Args:
        ks: how many neighbours may hold its own half; the first is what a table is ranked by.
    """

    name: ClassVar[str] = "pair_retrieval"
    stochastic: ClassVar[bool] = False
    ks: Sequence[int] = (1, 5, 10)

    def begin(self, subject: Subject, data: Any, seed: int) -> Callable[[Any], Measured]:
        """Raises DataError: a run without a text tower; act two: data without test pairs of images and
        captions."""
        pair: Aligned = subject.towers()

        def finish(opened: Captioned) -> Measured:
            if opened.modality != "image" or not hasattr(opened, "pairs"):  # sentences come in pairs too
                raise DataError(
                    f"{opened.name} holds no images with captions of their own: give a table "
                    "(data=image_captions data.test=...), or take protocol=zero_shot for class names"
                )
            if "test" not in opened.splits():
                raise DataError(
                    f"{opened.name} has no test pairs: give data.test=TABLE, or data.test_fraction as in "
                    "pretraining, which must not have seen them"
                )
            rows = opened.pairs("test", subject.words(), subject.length)
            u = vectors(pair.backbone, pair.image_vectors, rows.first, subject.device)
            v = vectors(pair.text, pair.text_vectors, rows.second, subject.device)
            ways = torch.stack([own_rank(u, v), own_rank(v, u)])  # (2, N)
            found = {f"recall@{k}": (ways < k).float().mean().item() for k in self.ks}
            first, *rest = found
            return Measured(first, found[first], {name: found[name] for name in rest}, test=len(u))

        return finish
