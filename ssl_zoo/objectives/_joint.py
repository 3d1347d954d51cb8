"""What objectives share that compare projections of views of one image: all of one size, or multi-crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.distributed import gather
from ssl_zoo.heads import scoring_type
from ssl_zoo.objectives._base import Batch, Objective
from ssl_zoo.objectives._shown import Pairs, cosines
from ssl_zoo.views.recipes import local_size
from ssl_zoo.views.view import Views, groups


def projection_std(z: Tensor) -> Tensor:
    """The mean deviation of unit projections z (N, D) times sqrt(D), a scalar without gradient.

    It is about 1 for projections spread over the sphere, and 0 for collapsed ones (SimSiam, Chen & He 2021,
    arXiv:2011.10566, figure 2)."""
    unit = F.normalize(z.detach().float(), dim=1)
    return unit.std(0, correction=0).mean() * unit.shape[1] ** 0.5


def of_all(z: Tensor) -> Tensor:
    """Rows of all processes, (V, N, D), float32 at least, from those of V views here, z (V, B, D)."""
    return gather(z.to(scoring_type(z)).transpose(0, 1)).transpose(0, 1)


class JointEmbedding(Objective[ImageBackbone]):
    """Projections of V views of each image; a subclass sets `project`, from pooled features to projections.

    Args:
        backbone: any vision backbone.
        views: images to V views of one size; None: those of the paper.
        paper: makes the paper's views of an image size (height, width).
        count: V, if it has to be a certain number; None: two or more.

    Raises:
        ValueError: the backbone is not for images, or the views are of several sizes or not so many.
    """

    whole_batch = True
    project: nn.Module

    def __init__(
        self,
        backbone: ImageBackbone,
        views: Views | None,
        paper: Callable[[tuple[int, int]], Views],
        count: int | None = 2,
    ):
        super().__init__(backbone)
        self.views = views or paper(backbone.image_size)
        counts = groups(self.views)
        if len(counts) != 1 or counts[0] < 2 or count not in (None, counts[0]):
            many = {None: "two or more", 2: "two"}.get(count, str(count))
            raise ValueError(
                f"{type(self).__name__} compares {many} views of one size, not groups of {counts} "
                "(ssl_zoo.views.recipes has views of papers)"
            )

    def embed(self, batch: Batch) -> Tensor:
        """Projections of all first views, then of all second ones, and so on: (V * B, out).

        All views pass through the network in one batch, so that batch norms see all of them."""
        (x,) = self.views(batch.x)
        return self.project(self.backbone(x).pooled)

    def embed_all(self, batch: Batch) -> Tensor:
        """Projections of all views of the samples of all processes: (V, N, out), float32 at least.

        Raises:
            ValueError: there is one sample, which has no variance and nothing to be compared with.
        """
        z = of_all(self.embed(batch).unflatten(0, (-1, len(batch.x))))
        if z.shape[1] < 2:
            raise ValueError(
                f"{type(self).__name__} compares samples, and here is one alone. It needs 2 at least, and "
                "does better with hundreds: raise batch_size, or lower the accumulation steps that it is "
                "divided by (accumulate). Samples of all processes count"
            )
        return z

    def show(self, batch: Batch) -> Pairs:
        (x,) = self.views(batch.x)
        first, second, *_ = x.split(len(batch.x))
        z = self.project(self.backbone(x[: 2 * len(batch.x)]).pooled)
        note = "Two views of each image, and how alike their projections are: the diagonal should be near 1."
        return Pairs(note, first, second, cosines(*z.chunk(2)))


class MultiCrop(Objective[ImageBackbone]):
    """Projections of large and small crops of each image; a subclass sets `project`, for `embed` and `show`.

    Args:
        backbone: any vision backbone.
        views: images to two crops or more, those of one size next to each other; None: those of the paper.
        paper: makes the paper's crops of the size of large ones, and that of small ones, 3/7 as wide.

    Attributes:
        large: how many crops have the first size.
        aim: what it takes more than one crop for, in words.

    Raises:
        ValueError: the backbone is not for images, or an image has one crop.
    """

    whole_batch = True
    aim = "compares crops of one image"
    project: nn.Module

    def __init__(
        self,
        backbone: ImageBackbone,
        views: Views | None,
        paper: Callable[[tuple[int, int], tuple[int, int]], Views],
    ):
        super().__init__(backbone)
        size, patch = backbone.image_size, getattr(backbone, "patch", 1)
        self.views = views or paper(size, local_size(size, patch))
        counts = groups(self.views)
        if sum(counts) < 2:
            raise ValueError(f"{type(self).__name__} {self.aim}, and its views are a single crop")
        self.large = counts[0]

    def embed(self, batch: Batch) -> Tensor:
        """Projections of all first crops, then of all second ones, and so on: (V * B, out).

        The backbone reads all crops of a size in one batch, and the head all crops."""
        pooled = [self.backbone(x).pooled for x in self.views(batch.x)]
        return self.project(torch.cat(pooled))

    def show(self, batch: Batch) -> Pairs:
        return crop_pairs(self.views(batch.x), len(batch.x), self.backbone, self.project)


def crop_pairs(
    crops: Sequence[Tensor],
    count: int,
    backbone: nn.Module,
    project: nn.Module,
    rows: str = "their projections",
) -> Pairs:
    """The first two crops of `count` images, and how alike a backbone and its head find them.

    rows: what the note calls the head's outputs."""
    first, second, *_ = (x for group in crops for x in group.split(count))
    z = [project(backbone(x).pooled) for x in (first, second)]
    note = f"Two crops of each image, and how alike {rows} are: the diagonal should be near 1."
    return Pairs(note, first, second, cosines(*z))
