"""What changes when a batch is divided: over processes, and over accumulation steps.

Everything here is the identity (or the plain mean) on one process. There is one differentiable
`gather`: its backward *sums* the gradients of all processes, which with DDP's averaging gives
exactly the gradient of the undivided batch, as long as each process computes the loss of its own
rows against everybody's (see tests/test_distributed.py, which checks value and gradient).

Noise that belongs to samples (crops, masks) is drawn by `rand` for the undivided batch from a
generator seeded by (seed, step); each part then keeps its own rows. Two processes of N, two
accumulated halves of N, and one process of 2N therefore see the same crops and masks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        return grad.chunk(world())[rank()]


def gather(x: Tensor) -> Tensor:
    """Rows of all processes, in order of rank: (N, ...) -> (world * N, ...), with gradient."""
    return _Gather.apply(x) if world() > 1 else x  # pyright: ignore[reportReturnType]


def fold(*keys: int | str) -> int:
    """A 63-bit seed from any keys; the same on every machine (unlike `hash`)."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass
class _Noise:
    """Where sample noise comes from. Unseeded, it is torch's default generator."""

    seed: int | None = None
    part: int = 0
    parts: int = 1
    generators: dict[torch.device, torch.Generator] = field(default_factory=dict)

    def generator(self, device: torch.device) -> torch.Generator | None:
        if self.seed is None:
            return None
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[device]


_noise = _Noise()


def seed_noise(seed: int, step: int, part: int = 0, parts: int = 1) -> None:
    """Start the sample noise of one step.

    Args:
        seed: the run's seed.
        step: optimizer step from 0.
        part: which part of the global batch this process handles now, of `parts` equal parts
            (parts = processes * accumulation steps).
    """
    global _noise
    _noise = _Noise(fold("noise", seed, step), part, parts)


def free_noise() -> None:
    """Back to torch's default generator."""
    global _noise
    _noise = _Noise()


def seed_model(device: torch.device, *keys: int | str) -> None:
    """Seed what the model itself draws on its device: dropout, stochastic depth.

    torch.manual_seed visits every kind of accelerator, which costs as much as a small layer, and without a
    GPU torch.cuda.manual_seed keeps the stack of every call; hence one generator or two.
    """
    seed = fold(*keys)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def rand(rows: int, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """Uniform noise in [0, 1) for this part's rows: (rows, *shape), float32."""
    device = torch.device(device)
    generator = _noise.generator(device)
    if generator is None:
        return torch.rand(rows, *shape, device=device)
    whole = torch.rand(rows * _noise.parts, *shape, device=device, generator=generator)
    return whole[_noise.part * rows : (_noise.part + 1) * rows]


def rand_shared(*shape: int) -> Tensor:
    """Uniform noise that all parts of a batch share, on the CPU, so that reading it never syncs."""
    return torch.rand(*shape, generator=_noise.generator(torch.device("cpu")))
