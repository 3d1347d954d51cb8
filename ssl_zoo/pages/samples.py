"""A sample as a reader of a page sees it: a thumbnail or the beginning of a text, and its class."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_zoo.data.rows import Rows
from ssl_zoo.data.tokenizer import Tokenizer

SIDE = 48  # pixels of a thumbnail's longer side at most: 800 of them then stay below 2 MB
BEGINNING = 160  # characters of a text


class Sample(NamedTuple):
    """What a page shows of a sample.

    Attributes:
        image: a data URI; "" for text.
        text: the beginning of the text; "" for images.
        label: name of its class; "" without labels.
    """

    image: str = ""
    text: str = ""
    label: str = ""


def data_uri(image: Tensor, side: int | None = None) -> str:
    """An image (C, H, W), uint8 or float in [0, 1], as a data URI.

    side: None keeps all pixels as they are, in PNG. A number shrinks the longer side to that many pixels at
    most, in lossy WebP.
    """
    pixels = image if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.expand(3, -1, -1) if len(pixels) == 1 else pixels
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    file = io.BytesIO()
    if side is None:
        picture.save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    picture.thumbnail((side, side))
    picture.save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def beginning(text: str, characters: int = BEGINNING) -> str:
    """The first characters of a text. White space becomes single spaces, and a cut an ellipsis."""
    text = " ".join(text.split())
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def samples(rows: Rows, tokenizer: Tokenizer | None = None) -> list[Sample]:
    """Every row as a sample. A text is what the model reads of it, through the tokenizer and back."""
    found: list[Sample] = []
    for start in range(0, len(rows), 256):
        batch = rows.read(np.arange(start, min(start + 256, len(rows))))
        for i, x in enumerate(batch.x):
            label = "" if batch.y is None else rows.classes[int(batch.y[i])]
            if tokenizer is None or x.dim() == 3:
                found.append(Sample(image=data_uri(x, SIDE), label=label))
                continue
            ids = x if batch.segments is None else x[batch.segments[i] >= 0]
            found.append(Sample(text=beginning(tokenizer.decode(ids.tolist())), label=label))
    return found
