"""How one encoded image becomes a square of upright 8-bit RGB. Decoding is Pillow's.

The resize policy: an image that already is size x size keeps its exact pixels; of any other the largest
centred square is resampled with Pillow's antialiased bicubic filter (the region that "shortest side to
size, then centre crop" keeps, without an intermediate image that a thin strip would make huge).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

POLICY = "upright RGB on white, centre square, bicubic; v1"  # part of every store's key
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte of RGB


def decode(image: bytes | Path | Image.Image, size: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """One image as uint8 (3, size, size).

    Turned by its EXIF orientation; transparency lies on white; the first frame of several; 16-bit
    values are scaled to 8 bits (65535 -> 255). One of more than `max_pixels` is refused by its header
    alone. Any thread may call it: it changes nothing but Pillow's limit, and that only upwards.

    Raises:
        Exception: of many kinds, from Pillow, where the image is damaged or not an image.
    """
    if isinstance(image, Image.Image):
        opened = image
    else:
        data = image.read_bytes() if isinstance(image, Path) else image
        if not data:
            raise ValueError("the file is empty (0 bytes)")
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = max_pixels  # else Pillow warns of what is allowed here
        try:
            opened = Image.open(io.BytesIO(data))
        except Image.UnidentifiedImageError:
            raise ValueError(f"its {len(data)} bytes are not an image that Pillow can read") from None
    with opened:
        if (pixels := opened.width * opened.height) > max_pixels:
            raise ValueError(f"its {pixels} pixels are more than max_pixels={max_pixels}")
        opened.load()
        rgb = _upright_rgb(opened)
    if rgb.size != (size, size):
        rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(rgb).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
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
