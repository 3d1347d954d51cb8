"""A2MIM: masked image modelling for convolutional networks (Li et al. 2023, arXiv:2205.13943).

A CNN cannot leave out what is hidden. Squares of the image are filled with its mean colour, and to the map
before a late stage a learnt vector is added where they lie: z <- z + M v. One linear layer draws all pixels
from the last map (section 4). With M the hidden pixels, channels standardised as the network reads them,
e = M (drawn - x), and D the Fourier transform of a channel of e,

    L = |e| / |M|, the mean over M and channels, + fourier x the mean over frequencies of w |D|^2
    w = |D| / max |D|, a constant: what fails counts most (Jiang et al. 2021, arXiv:2012.12821)

What is not hidden counts as drawn rightly, as in the authors' ResNet-50. Their code also gives large errors
of pixels more weight, averages D over the batch and takes logarithms of w; later runs damp the hidden z.

Published (ResNet-50): AdamW, lr 1.2e-3 at batch 2048, a tenth of it for v, weight decay 0.05, 300 epochs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_zoo.backbones._base import ImageBackbone
from ssl_zoo.heads import exact
from ssl_zoo.noise import rand
from ssl_zoo.objectives._base import Batch, Loss, Objective, Tune
from ssl_zoo.objectives._shown import Pictures
from ssl_zoo.stages import changing, map_before, squares
from ssl_zoo.tokens import unpatchify
from ssl_zoo.views.blocks import hidden_count
from ssl_zoo.views.recipes import crop_flip
from ssl_zoo.views.view import View


@exact
def reconstruction(drawn: Tensor, target: Tensor, hidden: Tensor, fourier: float) -> tuple[Tensor, Tensor]:
    """L and its first term, of images (B, C, H, W); hidden: (B, 1, H, W), 1 or 0, as many of every image."""
    error = (drawn - target) * hidden
    pixels = error.abs().mean() / hidden.mean()
    d = torch.fft.fft2(error, norm="ortho")
    power = d.real.square() + d.imag.square()  # (B, C, H, W)
    most = power.amax((2, 3), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
    return pixels + fourier * ((power / most).sqrt().detach() * power).mean(), pixels


class A2MIM(Objective[ImageBackbone]):
    """Args:
        backbone: a CNN whose stages read maps, such as any ResNet.
        masked: share of the squares that is hidden; their number is rounded up.
        stage: that reads v, from 1; 4 is the last of a ResNet.
        side: of a square, in cells of the map before that stage; 2 of 16 pixels, one of the last map.
        fourier: weight of the second term.
        view: images to training crops; default: random resized crop of at least 8 % and flip.

    Raises:
        ValueError: no CNN, no such stage, cells that do not divide the image, or nothing hidden or left.
    """

    family = "masked"
    takes = ("cnn",)
    unit = "mean absolute error of standardised pixels, and errors of frequencies"

    def __init__(
        self, backbone: ImageBackbone, masked: float = 0.6, stage: int = 4, side: int = 2,
        fourier: float = 0.5, view: View | None = None
    ):  # fmt: skip
        super().__init__(backbone)
        size, last = backbone.image_size, backbone.grid(*backbone.image_size)
        dim, *cells = map_before(backbone, stage)
        self.grid = squares(size, cells, last, side)
        self.places = self.grid[0] * self.grid[1]
        self.count = hidden_count(masked, self.places)
        self.view, self.stage, self.fourier = view or crop_flip(size, (0.08, 1.0)), stage, fourier
        self.token, self.patch = nn.Parameter(torch.zeros(dim)), size[0] // last[0]
        self.draw = nn.Linear(backbone.dim, self.patch**2 * len(backbone.normalise.mean))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (B, C, H, W) -> what is hidden (B, 1, H, W), what is read, what is drawn (B, C, H, W)."""
        at = rand(len(x), self.places, device=x.device).argsort(1)[:, : self.count]
        chosen = x.new_zeros(len(x), self.places).scatter(1, at, 1.0).view(-1, 1, *self.grid)
        hidden = F.interpolate(chosen, x.shape[2:])
        left = x.lerp(x.mean((2, 3), keepdim=True), hidden)

        def add(z: Tensor) -> Tensor:
            return z + (F.interpolate(chosen, z.shape[2:]) * self.token[:, None, None]).to(z.dtype)

        with changing(self.backbone, self.stage, add):
            drawn = self.draw(self.backbone(left).tokens)  # (B, N, p * p * C)
        return hidden, left, unpatchify(drawn, self.patch, drawn.shape[2] // self.patch**2, *x.shape[2:])

    def forward(self, batch: Batch) -> Loss:
        x = self.view(batch.x)
        hidden, _, drawn = self.predict(x)
        loss, pixels = reconstruction(drawn, self.backbone.normalise(x), hidden, self.fourier)
        return Loss(loss, {"pixel_error": pixels.detach()})

    def tune(self, name: str, parameter: nn.Parameter) -> Tune:
        return Tune(lr=0.1) if name == "token" else Tune()

    def show(self, batch: Batch) -> Pictures:
        x, read = self.view(batch.x), self.backbone.normalise
        hidden, left, drawn = self.predict(x)
        full = x.lerp(drawn * read.std + read.mean, hidden)
        note = "A training crop, what the network reads of it, and what it draws in the hidden squares."
        return Pictures(note, {"crop": x, "left": left, "drawn": full})
