"""The timings that docs/decisions quotes, one thread unless said: python benchmarks/road/micro.py"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from unittest.mock import patch

import torch
import torch.nn.functional as F

from ssl_zoo import Batch, NextToken, token_scores
from ssl_zoo.backbones import fused
from ssl_zoo.backbones._base import Vocabulary
from ssl_zoo.backbones.transformer import TextTransformer
from ssl_zoo.backbones.vision import timm_backbone
from ssl_zoo.views.recipes import crop_flip, simclr, simclr_small


def interleaved(cases: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each case; every round runs all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            began = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - began)
    return {name: median(values[1:]) for name, values in seconds.items()}


def output_matrix(n: int, d: int, v: int) -> None:
    """Forward and backward of n rows of width d against v ids."""
    hidden = torch.randn(n, d, requires_grad=True)
    weight = (torch.randn(v, d) * 0.05).requires_grad_()
    target, share = torch.randint(v, (n,)), torch.full((n,), 1 / n)
    cases: dict[str, Callable[[], object]] = {
        "plain": lambda: F.cross_entropy(F.linear(hidden, weight), target).backward(),
        "ours": lambda: token_scores.token_cross_entropy(hidden, weight, target, share).backward(),
    }
    fused = getattr(F, "linear_cross_entropy", None)  # torch >= 2.13
    if fused is not None:
        options = torch.nn.LinearCrossEntropyOptions()
        cases["torch's fused"] = lambda: fused(hidden, weight, target, options=options).backward()
    for name, seconds in interleaved(cases, rounds=3).items():
        print(f"output matrix, {n} x {d} x {v}, {name}: {1000 * seconds:.0f} ms")


def text_step(threads: int) -> None:
    """Forward and backward of tinyshakespeare's transformer on 12 x 64 characters."""
    model = TextTransformer(Vocabulary(69, 0, 1, 2, (0, 1, 2)), 128, 4, 2, 1, "relu2")
    ids = torch.randint(3, 69, (12, 65))
    objective = NextToken(model)

    def step(by_hand: bool) -> None:
        with patch.object(fused, "by_hand", lambda x: by_hand):
            objective(Batch(ids)).value.backward()

    for name, seconds in interleaved(
        {"by hand": lambda: step(True), "torch's": lambda: step(False)}, rounds=30
    ).items():
        print(
            f"transformer, forward and backward, {threads} threads, gradients {name}: {1000 * seconds:.1f} ms"
        )


def layout() -> None:
    """Forward and backward of the micro ResNet on 128 images of 32 px."""
    images = torch.rand(128, 3, 32, 32)
    nets = {}
    for name, layout in (("channels last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        net = timm_backbone("resnet10t", image_size=32, stem="small", channels=[16, 32, 64, 224]).model
        nets[name] = (net.to(memory_format=layout), images.contiguous(memory_format=layout))  # pyright: ignore
    cases = {
        name: (lambda n=net, x=x: n.forward_features(x).sum().backward()) for name, (net, x) in nets.items()
    }
    for name, seconds in interleaved(cases).items():
        print(f"micro ResNet, {name}: {128 / seconds:.0f} images/s forward and backward")


def views() -> None:
    for name, view, size, count in (
        ("crop and flip", crop_flip(32), 32, 256),
        ("SimCLR, small images", simclr_small(32), 32, 256),
        ("SimCLR", simclr(224), 224, 16),
    ):
        images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
        seconds = interleaved({name: lambda view=view, images=images: view(images)})[name]
        print(f"views, {name}, {size} px: {count / seconds:,.0f} images/s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    output_matrix(1000, 256, 8192)
    output_matrix(2048, 256, 65536)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        text_step(threads)
    torch.set_num_threads(1)
    layout()
    views()
