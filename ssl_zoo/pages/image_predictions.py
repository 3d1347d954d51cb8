"""What the objectives for images predict, as plain data: nothing here trains, or touches a weight."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.data.tokenizer import Tokenizer
from ssl_zoo.noise import free_noise, seed_noise
from ssl_zoo.objectives._base import Batch
from ssl_zoo.objectives.mae import MAE
from ssl_zoo.objectives.rotation import Rotation
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.pages.samples import beginning, data_uri
from ssl_zoo.tokens import patchify, put, take, unpatchify
from ssl_zoo.transfer.features import prepare
from ssl_zoo.views.image import rot90
from ssl_zoo.views.masks import random_split

GREY = 0.5  # of a patch that the encoder does not see


class Reconstruction(NamedTuple):
    """Three pictures of one image, as data URIs."""

    original: str
    masked: str
    drawn: str


class Turn(NamedTuple):
    """An image turned counter-clockwise by `degrees`, and the probability given to each of the four turns."""

    image: str
    degrees: int
    probabilities: tuple[float, float, float, float]


class Pairs(NamedTuple):
    """Two views of each sample (data URIs, or the beginning of its text twice), and the cosine similarity of
    the projections: row = first view, column = second view."""

    first: list[str]
    second: list[str]
    similarity: list[list[float]]
    of_text: bool


def reconstruct(objective: MAE, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What MAE sees of whole images and what it makes of it.

    Its decoder predicts pixels normalised within each patch; they are put back on the mean and the standard
    deviation of the true patch, as in the figures of He et al. (2022). Seen patches are shown as they are.

    Args:
        images: (B, 3, H, W) float in [0, 1], of the backbone's size.

    Returns:
        masked and drawn, (B, 3, H, W) float.
    """
    backbone = objective.backbone
    assert isinstance(backbone, TokenBackbone)
    assert backbone.patch is not None
    tokens = backbone.embed(images)
    noise = torch.rand(tokens.shape[:2], generator=torch.Generator().manual_seed(seed))
    seen, unseen = random_split(noise, objective.keep)
    code = objective.widen(backbone.encode(take(tokens, seen), seen).tokens)
    blank = objective.blank.expand(len(images), unseen.shape[1], -1)
    order = torch.cat([seen, unseen], 1)
    drawn = objective.decoder(torch.cat([code, blank], 1) + objective.position[order], objective.keep)
    patches = patchify(images, backbone.patch)
    true = take(patches, unseen)
    drawn = drawn * (true.var(-1, keepdim=True) + 1e-6).sqrt() + true.mean(-1, keepdim=True)
    shape = (backbone.patch, images.shape[1], *images.shape[-2:])
    masked = unpatchify(put(patches, unseen, torch.full_like(true, GREY)), *shape)
    return masked, unpatchify(put(patches, unseen, drawn), *shape)


@torch.no_grad()
def reconstructions(objective: MAE, batch: Batch) -> list[Reconstruction]:
    """One for each image of the batch (uint8), at the backbone's size."""
    images, _ = prepare(batch, objective.backbone)
    masked, drawn = reconstruct(objective, images)
    triples = zip(images, masked, drawn, strict=True)
    return [Reconstruction(*(data_uri(image) for image in three)) for three in triples]


@torch.no_grad()
def turns(objective: Rotation, batch: Batch) -> list[list[Turn]]:
    """For each image of the batch, its four turns."""
    images, _ = prepare(batch, objective.backbone)
    found: list[list[Turn]] = [[] for _ in images]
    for quarter in range(4):
        turned = rot90(images, torch.full((len(images),), quarter))
        for i, row in enumerate(objective.classify(objective.backbone(turned).pooled).softmax(1).tolist()):
            found[i].append(Turn(data_uri(turned[i]), 90 * quarter, tuple(row)))
    return found


@torch.no_grad()
def pairs(objective: SimCLR, batch: Batch, tokenizer: Tokenizer | None = None, seed: int = 0) -> Pairs:
    """Two training views of each sample, and how alike their projections are.

    Views of a text are two draws of dropout: only then is the backbone in training mode meanwhile.
    """
    view, was = objective.view, objective.training
    seed_noise(seed, 0)
    objective.train(view is None)
    try:
        if view is None:
            assert tokenizer is not None
            first = second = batch.x
            shown = [beginning(tokenizer.decode(ids), 60) for ids in batch.x.tolist()]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                one, two = (
                    objective.project(objective.backbone(x, batch.segments).pooled) for x in (first, second)
                )
            labels = shown, shown
        else:
            first, second = view(batch.x), view(batch.x)
            one, two = (objective.project(objective.backbone(x).pooled) for x in (first, second))
            labels = [data_uri(x) for x in first], [data_uri(x) for x in second]
    finally:
        free_noise()
        objective.train(was)
    similarity = F.normalize(one, dim=1) @ F.normalize(two, dim=1).T
    return Pairs(*labels, similarity.tolist(), view is None)
