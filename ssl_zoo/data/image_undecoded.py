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
from torch.nn.functional import interpolate

from ssl_zoo.data.image_decoding import check_size, decode_fast, open_image
from ssl_zoo.data.rows import DataError

AT_ONCE = 1 << 26  # pixels that are decoded in one call: 192 MiB of RGB
ORIENTATION = 0x0112  # the EXIF tag
END, TAIL = b"\xff\xd9", 1024  # how a JPEG ends, in its last bytes


class Encoded(NamedTuple):
    """One image. where: what errors call it."""

    data: bytes | Image.Image
    where: str


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
        jpegs: list[tuple[int, int, int]] = []  # place in the batch, orientation, pixels
        for i, (data, where) in enumerate(self.images):
            with damaged(where):
                turned = None if isinstance(data, Image.Image) else self._orientation(data)
                if turned is None:
                    here = decode_fast(data, self.size, self.max_pixels)
                    x[i] = torch.from_numpy(here.copy()).to(device)
                else:
                    jpegs.append((i, *turned))
        for some in grouped(jpegs):
            for (i, orientation, _), pixels in zip(some, self._decoded(some, device), strict=True):
                x[i] = square(upright(pixels, orientation), self.size)
        return x

    def _orientation(self, data: bytes) -> tuple[int, int] | None:
        """EXIF orientation (1 to 8) and pixels of a whole JPEG in RGB or grey; None for any other image."""
        check_size(len(data), self.max_pixels)
        with open_image(data, self.max_pixels) as image:
            whole = END in data[-TAIL:]  # of one that breaks off, other decoders tell nothing
            if image.format != "JPEG" or image.mode not in ("RGB", "L") or not whole:
                return None
            orientation: Any = image.getexif().get(ORIENTATION, 1)
            return orientation, image.width * image.height

    def _decoded(self, some: Sequence[tuple[int, int, int]], device: torch.device) -> Sequence[Tensor]:
        """RGB (3, H, W) of each of these JPEGs, as they lie in the file."""
        from torchvision.io import ImageReadMode, decode_jpeg  # takes a second

        encoded = [torch.frombuffer(bytearray(self._bytes(i)), dtype=torch.uint8) for i, *_ in some]
        try:
            with warnings.catch_warnings():  # torchvision 0.29 wants to leave decoding to torchcodec
                warnings.simplefilter("ignore", DeprecationWarning)
                found = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
        except RuntimeError:  # one is damaged, or of a kind that this decoder does not know: which one?
            found = [self._alone(i, device) for i, *_ in some]
        return found  # pyright: ignore[reportReturnType]

    def _alone(self, i: int, device: torch.device) -> Tensor:
        """One JPEG by Pillow, as it lies in the file."""
        with damaged(self.images[i].where), open_image(self._bytes(i), self.max_pixels) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).to(device)

    def _bytes(self, i: int) -> bytes:
        data = self.images[i].data
        assert isinstance(data, bytes)
        return data


def grouped(images: Sequence[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Groups of at most AT_ONCE pixels, which the last number counts; a larger image is alone."""
    group: list[tuple[int, int, int]] = []
    for one in images:
        if group and sum(pixels for *_, pixels in group) + one[-1] > AT_ONCE:
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


def resampled(x: Tensor, size: int) -> Tensor:
    return interpolate(x, (size, size), mode="bicubic", antialias=True)
