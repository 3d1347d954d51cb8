"""Encoded images of a batch, decoded on the device that they are sent to: JPEGs by torchvision, which has
nvJPEG for GPUs.

Bytes travel instead of pixels: from a loader's process to the trainer's, and from memory to the card.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_zoo.data.image_decoding import check_size, decode_fast, open_image, resampled
from ssl_zoo.data.rows import DataError

AT_ONCE = 1 << 26  # pixels that are decoded in one call: 192 MiB of RGB
ORIENTATION = 0x0112  # the EXIF tag
END, TAIL = b"\xff\xd9", 1024  # how a JPEG ends, in its last bytes


class Encoded(NamedTuple):
    """One image. where: what errors call it."""

    data: bytes | Image.Image
    where: str


class JPEG(NamedTuple):
    """What a device may decode. at: its place in the batch. orientation: of its EXIF header, 1 to 8."""

    at: int
    data: bytes
    where: str
    orientation: int
    pixels: int


@contextmanager
def damaged(where: str) -> Iterator[None]:
    """Within, what goes wrong with an image becomes a DataError that says which one it is."""
    try:
        yield
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error, ...
        raise DataError(f"{where}: {error} (repair the shard, or leave it out)") from error


def decodes() -> bool:
    """Whether torchvision has decoders of images."""
    import torchvision.io

    return hasattr(torchvision.io, "decode_jpeg")


class Undecoded:
    """Images in the place of a batch's pixels, until `to` sends them to a device.

    Args:
        images: of the batch, in its order.
        size: pixels a side that they get.
        max_pixels: an image with more is refused before it is decoded.
    """

    def __init__(self, images: Sequence[Encoded], size: int, max_pixels: int):
        self.images, self.size, self.max_pixels = images, size, max_pixels

    def __len__(self) -> int:
        return len(self.images)

    def pin_memory(self) -> Undecoded:
        """What loaders call on the way to a GPU; there is nothing to pin."""
        return self

    def to(self, device: torch.device | str, **how: Any) -> Tensor:
        """Decoded on a device: uint8 (B, 3, size, size), as `decode_fast` makes them, but for how a device's
        decoder rounds.

        Raises:
            DataError: an image is damaged, or too large.
        """
        device = torch.device(device)
        x = torch.empty(len(self), 3, self.size, self.size, dtype=torch.uint8, device=device)
        jpegs: list[JPEG] = []
        for at, image in enumerate(self.images):
            with damaged(image.where):
                if jpeg := self._jpeg(at, image):
                    jpegs.append(jpeg)
                else:
                    here = decode_fast(image.data, self.size, self.max_pixels)
                    x[at] = torch.from_numpy(here.copy()).to(device)
        for some in grouped(jpegs):
            for one, pixels in zip(some, self._decoded(some, device), strict=True):
                x[one.at] = square(upright(pixels, one.orientation), self.size)
        return x

    def _jpeg(self, at: int, image: Encoded) -> JPEG | None:
        """What the header of a whole JPEG in RGB or grey says; None for any other image."""
        data = image.data
        if isinstance(data, Image.Image):
            return None
        check_size(len(data), self.max_pixels)
        with open_image(data, self.max_pixels) as opened:
            whole = END in data[-TAIL:]  # of one that breaks off, other decoders tell nothing
            if opened.format != "JPEG" or opened.mode not in ("RGB", "L") or not whole:
                return None
            orientation: Any = opened.getexif().get(ORIENTATION, 1)
            return JPEG(at, data, image.where, orientation, opened.width * opened.height)

    def _decoded(self, some: Sequence[JPEG], device: torch.device) -> Sequence[Tensor]:
        """RGB (3, H, W) of each of these, as they lie in the file."""
        from torchvision.io import ImageReadMode, decode_jpeg  # takes a second

        encoded = [torch.frombuffer(bytearray(one.data), dtype=torch.uint8) for one in some]
        try:
            with warnings.catch_warnings():  # torchvision 0.29 wants to leave decoding to torchcodec
                warnings.simplefilter("ignore", DeprecationWarning)
                found = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
        except RuntimeError:  # one is damaged, or of a kind that this decoder does not know: which one?
            found = [self._alone(one, device) for one in some]
        return found  # pyright: ignore[reportReturnType]

    def _alone(self, one: JPEG, device: torch.device) -> Tensor:
        """One of them by Pillow, as it lies in the file."""
        with damaged(one.where), open_image(one.data, self.max_pixels) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).to(device)


def grouped(jpegs: Sequence[JPEG]) -> Iterator[list[JPEG]]:
    """Groups of at most AT_ONCE pixels; a larger image is alone."""
    group: list[JPEG] = []
    for one in jpegs:
        if group and sum(each.pixels for each in group) + one.pixels > AT_ONCE:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def upright(x: Tensor, orientation: int) -> Tensor:
    """(3, H, W) turned and mirrored as an EXIF orientation asks for."""
    if orientation in (5, 6, 7, 8):
        x = x.mT
    if orientation in (2, 3, 6, 7):
        x = x.flip(-1)
    if orientation in (3, 4, 7, 8):
        x = x.flip(-2)
    return x


def square(x: Tensor, size: int) -> Tensor:
    """The largest centred square of (3, H, W), resampled by torch's antialiased bicubic filter."""
    height, width = x.shape[1:]
    if (height, width) == (size, size):
        return x
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[None, :, top : top + side, left : left + side]
    if x.is_cuda:  # which has this filter for floats alone
        return resampled(x.float(), size).round_().clamp_(0, 255)[0].byte()
    return resampled(x, size)[0]
