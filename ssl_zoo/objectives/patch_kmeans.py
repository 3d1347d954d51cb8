"""K-means of whitened patches (Coates, Ng & Lee 2011, "An Analysis of Single-Layer Networks in Unsupervised
Feature Learning", section 3; Coates & Ng 2012, "Learning Feature Representations with K-means").

Patches p of an image are brought to mean 0 and deviation 1. Of those of the first batch come their mean m and
covariance S = V diag(e) V', which whiten: z = V diag(e + 0.1)^(-1/2) V' (p - m). With words c_1 .. c_K, the
dictionary of the backbone,

    L = mean over patches of min_k || z - c_k ||^2 / d

The words start as patches of the first batch, moved by some rounds of k-means, and then follow the gradient
of L, k-means by descent (Bottou & Bengio 1995), whose minima are those of Lloyd's rounds. The paper takes
400,000 patches of 6 x 6 pixels, and up to 4,000 words.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_zoo.backbones.patches import PatchDictionary
from ssl_zoo.codebook import Once, k_means, nearest, refuse_few
from ssl_zoo.distributed import divided_as, of_first
from ssl_zoo.heads import exact
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective
from ssl_zoo.objectives._shown import Pictures
from ssl_zoo.views.view import View

EPS = 0.1  # added to the eigenvalues of the patches' covariance, as in the paper's code


@exact
def quantization(z: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """L of rows z (M, d) with words (K, d), and the share of words that are nearest to a row."""
    with torch.no_grad():
        found = nearest(z, words)
        used = words.new_zeros(len(words)).index_fill(0, found, 1.0).mean()
    return (z - words[found]).square().mean(), used


@torch.no_grad()
@exact
def whitening(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of rows (M, d), and the symmetric matrix (d, d) that whitens what is left of them."""
    mean = rows.mean(0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    return mean, vectors * (values.clamp_min(0) + EPS).rsqrt() @ vectors.T


class PatchKMeans(Objective[PatchDictionary]):
    """Args:
        backbone: a dictionary of patches.
        patches: of each image and step, at random places.
        rounds: of k-means on the patches of the first batch.
        view: images to training crops; default: the images as they are.

    Raises:
        ValueError: another backbone, or fewer than one patch; from `advance`, a first batch of fewer patches
            than words.
    """

    family = "clustering"
    takes = ("patches",)
    unit = "mean squared error of whitened patches"
    tiny: ClassVar[dict[str, Any]] = {"rounds": 2}

    def __init__(
        self, backbone: PatchDictionary, patches: int = 64, rounds: int = 5, view: View | None = None
    ):
        super().__init__(backbone)
        if patches < 1 or rounds < 0:
            raise ValueError(f"{patches=}, {rounds=}: an image gives one patch at least, in 0 rounds or more")
        self.patches, self.rounds, self.view, self.first = patches, rounds, view or nn.Identity(), Once()

    def drawn(self, batch: Batch) -> Tensor:
        """Patches at random places of the crops, even and not whitened: (B, patches, d)."""
        x = self.backbone.normalise(self.view(batch.x))
        high, wide = self.backbone.places(*x.shape[2:])
        at = (rand(len(x), self.patches, device=x.device) * (high * wide)).long().clamp_max(high * wide - 1)
        return self.backbone.patches(x, at)

    def forward(self, batch: Batch) -> Loss:
        rows = self.drawn(batch).flatten(0, 1)  # (B * patches, d)
        self.first.stash(rows)
        loss, used = quantization(self.backbone.white(rows), self.backbone.words)
        return Loss(loss, {"words_used": used})

    @torch.no_grad()
    def advance(self, t: float) -> None:
        super().advance(t)
        if (rows := self.first.first()) is not None:
            refuse_few(rows, len(words := self.backbone.words))
            mean, white = whitening(rows)
            self.backbone.centre.copy_(of_first(mean))
            self.backbone.whiten.copy_(of_first(white))
            found = of_first(k_means(self.backbone.white(rows), len(words), self.rounds))
            words.copy_(divided_as(found, words))

    def show(self, batch: Batch) -> Pictures:
        """As many words as there are images, as patches."""
        side = self.backbone.side
        seen = self.backbone.words[: len(batch.x)] @ torch.linalg.inv(self.backbone.whiten)
        seen = seen / seen.abs().amax(1, keepdim=True).clamp_min(1e-6) / 2 + 0.5
        note = "The first words of the dictionary as patches that are not whitened; grey is 0."
        return Pictures(note, {"word": seen.unflatten(1, (-1, side, side))})
