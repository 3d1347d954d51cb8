"""Images a second that one core decodes to squares: python benchmarks/speed/decoding.py [--size 224]

Two photographs of scikit-learn, as they are (640 x 427) and enlarged two and four times, JPEG of quality 90:
- `exact`: as stores are made, and images read with unpack=false: all by Pillow;
- `fast_resize`: decoded by Pillow, resized by torch;
- `stream`: the same with reducing_gap=2: libjpeg leaves out what is scaled away;
- `torchvision`: its decoder, and the same square resized by it.
They take turns on one thread; the fastest of nine rounds. Beside the speed: how far values are from exact
ones, on average of 255. (Where the sides differ by an odd number, the exact square lies between pixels.)
"""

from __future__ import annotations

import argparse
import io
import time
from functools import partial

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2.functional import InterpolationMode, center_crop, resize

from ssl_zoo.data.image_decoding import decode, decode_fast

TIMES, ROUNDS = 6, 9


def by_torchvision(data: bytes, size: int) -> np.ndarray:
    image = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    square = center_crop(image, [min(image.shape[1:])] * 2)
    return resize(square, [size, size], InterpolationMode.BICUBIC, antialias=True).numpy()


WAYS = {
    "exact": decode,
    "fast_resize": decode_fast,
    "stream": partial(decode_fast, reducing_gap=2),
    "torchvision": by_torchvision,
}


def encoded(image: np.ndarray, factor: int) -> bytes:
    """A photograph as JPEG, enlarged."""
    photo = Image.fromarray(image)
    photo = photo.resize((photo.width * factor, photo.height * factor), Image.Resampling.LANCZOS)
    photo.save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    size = parser.parse_args().size
    torch.set_num_threads(1)
    photos = load_sample_images().images
    print(f"| photographs | {' | '.join(WAYS)} |\n|---|{'---:|' * len(WAYS)}")
    for factor in (1, 2, 4):
        files = [encoded(photo, factor) for photo in photos]
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way, read in WAYS.items():
                began = time.perf_counter()
                for _ in range(TIMES):
                    for data in files:
                        read(data, size)
                seconds[way].append((time.perf_counter() - began) / TIMES / len(files))
        whole = [decode(data, size).astype(int) for data in files]
        cells = []
        for way, read in WAYS.items():
            off = np.mean(
                [np.abs(read(data, size) - one).mean() for data, one in zip(files, whole, strict=True)]
            )
            cells.append(f"{1 / min(seconds[way]):,.0f}" + (f" (off by {off:.1f})" if off else ""))
        print(f"| {640 * factor} x {427 * factor} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
