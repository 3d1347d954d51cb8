"""SimCLR views: from a stored uint8 image to a normalised float tensor, two views an image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from duel import Case, Gate, Side

from cases.material import pictures, pil
from ssl_zoo.views.recipes import simclr

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = {32: 256, 96: 64, 224: 32}


def ours(size: int, gate: Gate) -> None:
    view, images = simclr(size), pictures(BATCH[size], size)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    while True:
        for _ in range(2):
            view(images).sub_(mean).div_(std)
        gate(2 * len(images))


def one_by_one(transform: Callable, size: int, views: int, gate: Gate) -> None:
    images = pil(pictures(BATCH[size], size))
    while True:
        torch.stack([torch.stack(transform(image)) for image in images])
        gate(views * len(images))


def lightly(size: int, gate: Gate) -> None:
    from lightly.transforms import SimCLRTransform

    one_by_one(SimCLRTransform(input_size=size), size, 2, gate)


def torchvision(size: int, gate: Gate) -> None:
    """The same recipe with torchvision's second API on tensors, image by image."""
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur((size // 10) | 1, (0.1, 2.0))]),
            v2.Normalize(MEAN, STD),
        ]
    )
    images = pictures(BATCH[size], size)
    while True:
        for _ in range(2):
            torch.stack([transform(image) for image in images])
        gate(2 * len(images))


def kornia(size: int, gate: Gate) -> None:
    import kornia.augmentation as K

    kernel = (size // 10) | 1
    transform = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=0.5),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    images = pictures(BATCH[size], size)
    while True:
        for _ in range(2):
            transform(images.float() / 255)
        gate(2 * len(images))


def case(size: int, bar: float) -> Case:
    peers: dict[str, Side] = {
        "lightly": partial(lightly, size),
        "torchvision v2": partial(torchvision, size),
        "kornia": partial(kornia, size),
    }
    return Case(
        title=f"SimCLR views, {size} px, one core",
        unit="views/s",
        against="lightly SimCLRTransform",
        sides={"ssl_zoo": partial(ours, size), **peers},
        asides=("torchvision v2", "kornia"),
        bar=bar,
        seconds=2.0,
        same="images, crop, flip, jitter 0.8/0.8/0.8/0.2, grey, blur, normalisation; float32",
        differs="lightly blurs with PIL's box filters, as wide as sigma asks; ours and the others with a "
        "kernel of a tenth of the side. lightly starts from PIL images, the others from uint8 tensors",
    )


CASES = {
    "views_32": partial(case, 32, 40.0),
    "views_96": partial(case, 96, 4.0),
    "views_224": partial(case, 224, 4.0),
}
