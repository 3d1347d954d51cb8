"""BEiT: say which code each hidden patch of an image has (Bao et al. 2022, arXiv:2106.08254, section 2).

Blocks of patches are hidden behind a learnt vector, before positions are added; the network reads the whole
image, and a linear layer tells the code z_i of each hidden patch i, as BERT tells hidden words. With M the
hidden patches,

    L = - mean over i in M of log softmax(W network(left)_i + b)_{z_i}

In the paper z_i are the 8,192 codes of DALL-E's tokenizer, an autoencoder trained on 250 million images. Here
codes are of patches alone: each patch is normalised (mean 0, deviation 1), and its code is the nearest of K,
which k-means finds on patches of the first batch and which never change again (ssl_zoo/codebook.py). They
tell edges and textures apart and know nothing of objects: do not expect the paper's results of them. Labels
of the first step are random; its learning rate is 0 in a warm-up. To predict features of a slow average in
place of codes is data2vec (objectives/data2vec.py).

The paper also jitters colours. Published training (ViT-B): AdamW, lr 1.5e-3, batch 2048, betas 0.9 and 0.98,
weight decay 0.05, clip 3, 800 epochs.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from ssl_zoo.assign import entropy
from ssl_zoo.backbones._base import TokenBackbone
from ssl_zoo.codebook import Codebook
from ssl_zoo.heads import classification
from ssl_zoo.objectives._base import Batch, Loss
from ssl_zoo.objectives._masked import MaskedPatches
from ssl_zoo.objectives._shown import Pictures, painted
from ssl_zoo.tokens import denormalise, normalise, patchify, take
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View

FITTED = 16  # patches of an image that the codes are found on, at most


class BEiT(MaskedPatches):
    """Args:
        backbone: a vision transformer.
        masked: share of the patches that is hidden; 75 of 14 x 14.
        block: patches in a hidden rectangle at least; 16 of 14 x 14.
        codes: K. The first batch has to have as many patches, 16 of each image, and better 30 times as many.
        view: images to training crops; default: random resized crop of at least 8 % and flip.

    Raises:
        ValueError: the backbone is not a vision transformer, blocks of no patch, fewer than two codes, or a
            share that hides nothing or all; from `advance`, a first batch of fewer patches than codes.
    """

    family = "masked"
    takes = ("vit",)
    unit = "nats"
    tiny: ClassVar[dict[str, Any]] = {"codes": 12}

    def __init__(
        self,
        backbone: TokenBackbone,
        masked: float = 75 / 196,
        block: int = 16,
        codes: int = 1024,
        view: View | None = None,
    ):
        super().__init__(backbone, masked, view, partial(crop_flip, scale=(0.08, 1.0)))
        if block < 1:
            raise ValueError(f"block={block}: a rectangle has one patch at least")
        self.block = block
        self.codebook = Codebook(codes, self.patch**2 * len(self.normalise.mean))
        self.tell = nn.Linear(backbone.dim, codes)

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        at = self.in_blocks(x, self.block)
        patches = normalise(take(patchify(self.normalise(x), self.patch), at))  # (B, K, p * p * C)
        self.codebook.stash(patches[:, :FITTED].flatten(0, 1))
        code = self.codebook(patches).flatten()  # (B * K,)
        loss, accuracy = classification(
            self.code(x, at).flatten(0, 1), self.tell.weight, self.tell.bias, code
        )
        each = torch.full(code.shape, 1 / len(code), device=code.device)
        share = each.new_zeros(len(self.codebook.codes)).index_add(0, code, each)  # (K,)
        # To know how common each code is, and nothing of the image, costs this much.
        return Loss(loss, {"accuracy": accuracy.detach(), "code_entropy": entropy(share[None])})

    def advance(self, t: float) -> None:
        super().advance(t)
        self.codebook.flush()

    def show(self, batch: Batch) -> Pictures:
        x = self.view(batch.x)
        at, read = self.in_blocks(x, self.block), self.normalise(x)
        true, codes = take(patchify(read, self.patch), at), self.codebook.codes
        told = self.tell(self.code(x, at)).argmax(-1)  # (B, K)
        crop = self.restore(read)
        best, drawn = (
            self.restore(painted(read, self.patch, at, denormalise(codes[code], true)))
            for code in (self.codebook(normalise(true)), told)
        )
        left = painted(crop, self.patch, at, torch.full_like(true, 0.5))
        note = (
            "A training crop, what is left of it, the codes of its hidden patches, and those that are told; "
            "each code is drawn on the true mean and deviation of its patch."
        )
        return Pictures(note, {"crop": crop, "left": left, "codes": best, "told": drawn})
