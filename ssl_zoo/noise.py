"""Noise that is a function of (seed, step), whatever the number of processes and of accumulated parts.

Noise that belongs to samples (crops, masks) is drawn by `rand`. The number for column c of row r of the
undivided batch is a function of (seed, step, which draw of the step, r, c), so that each part draws its own
rows and no others. Two processes of N, two accumulated halves of N, and one process of 2N therefore see the
same crops and masks, on any device.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def fold(*keys: int | str) -> int:
    """A 63-bit seed from any keys; the same on every machine (unlike `hash`)."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass
class _Noise:
    """Where the noise of samples comes from: a key, or torch's default generator where there is none."""

    key: int | None = None
    part: int = 0
    parts: int = 1
    draws: int = 0  # so far in this step

    def next_key(self) -> int:
        """The key of the next draw; all parts make the same draws in the same order."""
        assert self.key is not None
        self.draws += 1
        return fold(self.key, self.draws)


_noise = _Noise()


def seed_noise(seed: int, step: int, part: int = 0, parts: int = 1) -> None:
    """Start the sample noise of one step.

    Args:
        seed: the run's seed.
        step: optimizer step from 0.
        part: which part of the global batch this process handles now, of `parts` equal parts
            (parts = processes * accumulation steps).

    Raises:
        ValueError: a part that is not one of 0 to parts - 1.
    """
    global _noise
    if not 0 <= part < parts:
        raise ValueError(f"there is no part {part} of {parts}")
    _noise = _Noise(fold("noise", seed, step), part, parts)


def free_noise() -> None:
    """Draw the noise of samples from torch's default generator again."""
    global _noise
    _noise = _Noise()


def seed_model(device: torch.device, *keys: int | str) -> None:
    """Seed what the model itself draws on its device: dropout, stochastic depth.

    It seeds the generator of the CPU, and on a GPU that of CUDA, and does not call torch.manual_seed: that
    visits every kind of accelerator, which costs as much as a small layer. Without a GPU,
    torch.cuda.manual_seed would keep the stack of every call.
    """
    seed = fold(*keys)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def rand(rows: int, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """Uniform noise in [0, 1) for this part's rows: (rows, *shape), float32."""
    if _noise.key is None:
        return torch.rand(rows, *shape, device=device)
    count = rows * math.prod(shape)
    return uniform(_noise.next_key(), _noise.part * count, count, torch.device(device)).view(rows, *shape)


def rand_shared(*shape: int) -> Tensor:
    """Uniform noise that all parts of a batch share, on the CPU, so that reading it never syncs."""
    if _noise.key is None:
        return torch.rand(shape)
    return uniform(_noise.next_key(), 0, math.prod(shape), torch.device("cpu")).view(shape)


def directions(count: int, dim: int) -> Tensor:
    """Random directions that all parts of a batch share, spread evenly over the sphere.

    Returns:
        (count, dim) float32 of length 1, on the CPU.
    """
    one, two = rand_shared(2, count, dim)
    normal = (-2 * torch.log1p(-one)).sqrt() * torch.cos(2 * math.pi * two)  # Box & Muller 1958
    return normal / normal.norm(dim=1, keepdim=True).clamp_min(torch.finfo(normal.dtype).tiny)


def row_numbers(rows: int, device: torch.device | str = "cpu") -> Tensor:
    """Which rows of the undivided batch this part's rows are: (rows,) int64."""
    return torch.arange(rows, device=device) + _noise.part * rows


def stratified(rows: int, device: torch.device | str = "cpu") -> Tensor:
    """Numbers in [0, 1), one for each of this part's rows: (rows,) float32, evenly spread over the batch.

    Row r of N gets (r + u) / N, where all rows share u: the batch then covers the interval whatever it is
    divided into, and the mean over it varies less than that of independent draws (Kingma et al. 2021,
    "Variational diffusion models", appendix I.1).
    """
    shared = rand_shared().numpy().item()  # on the CPU: nothing waits for a device
    numbers = (row_numbers(rows, device) + shared) / (rows * _noise.parts)
    return numbers.clamp_max(1 - 2.0**-24)  # r + u may be rounded up to N


# SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"): number i of a
# stream is a mixing of key + i * GAMMA, so that any of them is found at once. It passes BigCrush.
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
HELD = 2**15  # numbers mixed at once on a CPU: as many as fit into its cache


def mixed(counters: np.ndarray, key: int) -> np.ndarray:
    """The numbers of SplitMix64 that belong to these counters: uint64 -> uint64, without its last shift.

    That shift would change the lower 33 bits alone, so only the upper 31 bits are good numbers.
    """
    x = counters * np.uint64(GAMMA)
    x += np.uint64(key)
    for shift, factor in ((30, FIRST), (27, SECOND)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    return x


def uniform(key: int, first: int, count: int, device: torch.device) -> Tensor:
    """Numbers first, first + 1, ... of the stream `key`: (count,) float32 in [0, 1), multiples of 2^-24.

    The same bits on every device; none is waited for.
    """
    if device.type != "cpu":
        return _uniform(key, first, count, device)
    found = np.empty(count, np.float32)
    for start in range(0, count, HELD):
        stop = min(start + HELD, count)
        numbers = np.arange(first + start, first + stop, dtype=np.uint64)
        found[start:stop] = mixed(numbers, key) >> np.uint64(40)
    found *= np.float32(2.0**-24)
    return torch.from_numpy(found)


def _uniform(key: int, first: int, count: int, device: torch.device) -> Tensor:
    """`uniform` in torch's operations. Integers are signed in it: a shift repeats the sign, which is cut."""
    x = torch.arange(first, first + count, device=device).mul_(_signed(GAMMA)).add_(_signed(key))
    for shift, factor in ((30, FIRST), (27, SECOND)):
        x.bitwise_xor_((x >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(_signed(factor))
    return x.bitwise_right_shift_(40).bitwise_and_(2**24 - 1).float().mul_(2.0**-24)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits
