"""Views of a batch on a CPU: the compiled loops of `loops`, on as many threads as torch uses."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ssl_zoo.views.image import Draw, refuse_kernel, to_float
from ssl_zoo.views.rendering import render_some


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of a process. Its number is an argument because threads do not live on in a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="ssl_zoo-views")


def render(x: Tensor, size: tuple[int, int], draw: Draw, kernel: int) -> Tensor:
    """Views of a batch of images on the CPU, on as many threads as torch uses.

    Args:
        x: (B, C, H, W) uint8, or float in [0, 1]; C is 1 or 3.
        size: (height, width) of the views.
        draw: what happens to each image.
        kernel: odd width of the blur in pixels.

    Returns:
        (B, C, h, w) float32 in [0, 1].

    Raises:
        ValueError: a blur that reaches past the mirrored border, or another type of image.
    """
    refuse_kernel(kernel, size)
    if x.dtype != torch.uint8:
        x = to_float(x).float()
    out = torch.empty(*x.shape[:2], *size)
    source, target = x.detach().contiguous().numpy(), out.numpy()
    unit = np.float32(1 / 255 if x.dtype == torch.uint8 else 1)
    order = np.array(draw.order, np.int64)
    box = torch.stack(draw.box, 1)
    parts = (part.numpy() for part in (box, draw.flip, draw.factors, draw.grey, draw.sigma, draw.solar))
    some = partial(render_some, source, unit, target, order, kernel // 2, *parts)
    threads = max(1, min(torch.get_num_threads(), len(x)))
    cuts = [len(x) * part // threads for part in range(threads + 1)]
    helpers = [
        _pool(os.getpid(), threads - 1).submit(some, first, last) for first, last in pairwise(cuts[1:])
    ]
    some(0, cuts[1])
    for helper in helpers:
        helper.result()
    return out


def warm_up() -> None:
    """Load what the first view would load, or compile: some seconds, once on each machine."""
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    zero, side, no = torch.zeros(1, dtype=torch.long), torch.full((1,), 4), torch.zeros(1, dtype=torch.bool)
    draw = Draw((zero, zero, side, side), no, [], torch.ones(1, 4), no, torch.zeros(1), no)
    render(image, (4, 4), draw, 1)
