"""How one encoded image becomes a square of upright 8-bit RGB. Decoding is Pillow's.

The resize policy: an image that already is size x size keeps its exact pixels; of any other the largest
centred square is resampled with Pillow's antialiased bicubic filter (the region that "shortest side to
size, then centre crop" keeps, without an intermediate image that a thin strip would make huge).

Streams, and other images where that is asked for, have a square of whole pixels, which torch resamples with
the same filter in a fifth of the time: of the same square, one value in two hundred is another, by 1.
"""

from __future__ import annotations

import io
import math
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from torch import Tensor

from ssl_zoo.portable import after_fork, open_to_read

POLICY = "upright RGB on white, centre square, bicubic; v1"  # part of every store's key
FAST = "upright RGB on white, centre square of whole pixels, bicubic by torch; v1"

MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte of RGB
# Formats whose decoders stay inside this process: Pillow hands EPS to Ghostscript. AVIF needs a Pillow that
# was built with it, HEIF a registered pillow-heif.
MARKED = ["JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "JPEG2000", "AVIF", "HEIF", "QOI"]
FORMATS = [*MARKED, "BMP", "DIB", "PPM"]  # whose first bytes may begin a text as well
BAND = 1 << 22  # pixels that are converted at a time


def formats() -> list[str]:
    """Those of `FORMATS` that this Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def suffixes() -> tuple[str, ...]:
    """Endings of the names of images, in small letters. (.pfm holds depths: no pixels of a known range.)"""
    known = {"MPO", *formats()}
    return tuple(
        sorted(s for s, name in Image.registered_extensions().items() if name in known and s != ".pfm")
    )


def is_image(start: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of a format that is known by them."""
    accepts = (Image.OPEN[name][1] for name in formats() if name in MARKED)
    return any(accept is not None and accept(start) is True for accept in accepts)


def open_file(path: Path | str) -> BufferedReader:
    """A regular file, opened for reading.

    Raises:
        ValueError: it is a pipe, a device or the like.
        OSError: it cannot be read.
    """
    handle = open_to_read(path)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("it is no regular file")
    return open(handle, "rb")


def read_image(path: Path | str, max_pixels: int) -> bytes:
    """An encoded image. ValueError if it is no regular file, or too large for an image of `max_pixels`."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_size(size, max_pixels)
        return file.read(size)


def check_size(size: int, max_pixels: int) -> None:
    """Refuse so many encoded bytes if no image of `max_pixels` needs them: over 8 a pixel and a megabyte."""
    if size > (most := 8 * max_pixels + (1 << 20)):
        raise ValueError(f"its {size:,} bytes are more than the {most:,} that max_pixels={max_pixels} allows")


class InFlight:
    """Lets the threads of a process decode so many pixels at a time; a larger image goes alone."""

    def __init__(self, pixels: int):
        self.pixels = pixels
        self.reset()

    def reset(self) -> None:
        self._free, self._change = self.pixels, threading.Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        share = min(pixels, self.pixels)
        with self._change:
            self._change.wait_for(lambda: share <= self._free)
            self._free -= share
        try:
            yield
        finally:
            with self._change:
                self._free += share
                self._change.notify_all()


in_flight = InFlight(MAX_PIXELS)
after_fork(in_flight.reset)  # the threads that hold it stay with the parent


def decode(image: bytes | Path | Image.Image, size: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """One image as uint8 (3, size, size), as stores keep it.

    Turned by its EXIF orientation; transparency lies on white; the first frame of several; 16-bit
    values are scaled to 8 bits (65535 -> 255). One of more than `max_pixels` is refused by its header
    alone. Any thread may call it: it changes nothing but Pillow's limit, and that only upwards. Besides the
    encoded bytes an image takes 3 to 8 bytes a pixel, and all threads together decode no more than
    `in_flight` pixels at a time.

    Raises:
        Exception: of many kinds, from Pillow, where the image is damaged or not an image.
    """

    def square(rgb: Image.Image) -> np.ndarray:
        return np.asarray(ImageOps.fit(rgb, (size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)

    return _squared(image, size, max_pixels, square, None)


def decode_fast(
    image: bytes | Path | Image.Image,
    size: int,
    max_pixels: int = MAX_PIXELS,
    reducing_gap: float | None = None,
) -> np.ndarray:
    """As `decode`, for whoever decodes an image each time that it is read.

    reducing_gap: a JPEG is decoded at a half, a quarter or an eighth of its sides (libjpeg leaves out what
        is not needed) where the shorter one still has so many times `size`; None: in full.
    """
    import torch  # takes seconds, which who lists images does without

    def square(rgb: Image.Image) -> np.ndarray:
        side = min(rgb.size)
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        pixels = torch.from_numpy(np.array(rgb.crop((left, top, left + side, top + side))))
        channels = pixels.permute(2, 0, 1)[None]  # (S, S, 3) -> (1, 3, S, S)
        return resampled(channels, size)[0].numpy()

    least = None if reducing_gap is None else math.ceil(reducing_gap * size)
    return _squared(image, size, max_pixels, square, least)


def resampled(squares: Tensor, size: int) -> Tensor:
    """(B, 3, S, S) as (B, 3, size, size), by torch's antialiased bicubic filter."""
    from torch.nn.functional import interpolate

    return interpolate(squares, (size, size), mode="bicubic", antialias=True)


def _squared(
    image: bytes | Path | Image.Image,
    size: int,
    max_pixels: int,
    square: Callable[[Image.Image], np.ndarray],
    least: int | None,
) -> np.ndarray:
    """An image as uint8 (3, size, size), which `square` makes of upright RGB of other sides. least: pixels of
    its shorter side that a JPEG has to keep; None: all."""
    opened = image if isinstance(image, Image.Image) else _open(image, max_pixels)
    with opened:
        if (pixels := opened.width * opened.height) > max_pixels:
            raise ValueError(f"its {pixels} pixels are more than max_pixels={max_pixels}")
        if least is not None:
            opened.draft(None, (least, least))
        with in_flight(opened.width * opened.height):
            opened.load()
            rgb = _upright_rgb(opened)
            if rgb.size != (size, size):
                return square(rgb)
            return np.asarray(rgb).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)


def _open(image: bytes | Path, max_pixels: int) -> Image.Image:
    data = read_image(image, max_pixels) if isinstance(image, Path) else image
    if not data:
        raise ValueError("the file is empty (0 bytes)")
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # else Pillow warns of what is allowed here
    try:
        return Image.open(io.BytesIO(data), formats=formats())
    except Image.UnidentifiedImageError:
        raise ValueError(f"its {len(data)} bytes are not an image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"its pixels are more than max_pixels={max_pixels} ({error})") from None


def open_image(image: bytes | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image whose pixels are not decoded yet, of a format that `decode` takes.

    Raises:
        Exception: of several kinds, where it is no image, or of more than `max_pixels`.
    """
    opened = _open(image, max_pixels)
    if (pixels := opened.width * opened.height) > max_pixels:
        raise ValueError(f"its {pixels} pixels are more than max_pixels={max_pixels}")
    return opened


def _upright_rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    height = max(1, BAND // image.width)
    if height >= image.height:
        return as_rgb(image)
    rgb = Image.new("RGB", image.size)  # the steps of a conversion never hold copies of all of a large image
    for top in range(0, image.height, height):
        band = image.crop((0, top, image.width, min(top + height, image.height)))
        rgb.paste(as_rgb(band), (0, top))
    return rgb


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB: transparency lies on white, 16-bit values are scaled to 8 bits.

    Raises:
        ValueError: its pixels are floats, or 32-bit numbers beyond 0 to 65535.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range: convert them to 8 or 16 bits")
    if image.mode.startswith("I"):  # I;16 and its byte orders, or I: Pillow's convert would clip at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"32-bit pixels of {values.min()} to {values.max()} have no agreed range: "
                "convert them to 8 or 16 bits"
            )
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        # Fully transparent pixels may hide any colour; on white they look as they do on a page.
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
