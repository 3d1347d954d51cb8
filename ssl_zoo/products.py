"""What a CPU can do: matrix products by oneDNN where MKL is slow, and memory that stays with the process.

torch multiplies float32 matrices by MKL, which takes AVX2 on AMD's processors, also on those that have
AVX-512; its convolutions are oneDNN's, which takes it. A linear layer is a convolution of a single pixel. And
large tensors, which each step frees and asks for again, go back to the system each time, which clears them
page by page. docs/decisions/0010 says what both are worth.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROWS, WORK = 256, 2**24  # rows, and multiplications, from which on a convolution is the faster one
PARTS = 16  # oneDNN takes its fast kernels, in one thread too, from so many images on


@cache
def slow_mkl() -> bool:
    """Whether this is a processor with AVX-512 on which MKL does not use it."""
    try:
        found = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in found and torch.backends.cpu.get_cpu_capability() == "AVX512"


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether a linear layer of these, (..., D) and (V, D), is faster as a convolution."""
    rows, length = x.numel() // max(1, x.shape[-1]), x.shape[-1]
    return (
        x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and rows >= ROWS
        and rows % PARTS == 0
        and rows * length * len(weight) >= WORK
        and slow_mkl()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def pixels(x: Tensor) -> Tensor:
    """Rows (N, D) as images of a pixel's width: (16, D, N / 16, 1), channels last."""
    return x.reshape(PARTS, len(x) // PARTS, 1, x.shape[1]).permute(0, 3, 1, 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`: x (..., D), weight (V, D) and bias (V,) -> (..., V)."""
    if not suits(x, weight):
        return F.linear(x, weight, bias)
    y = torch.conv2d(pixels(x.flatten(0, -2)), weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def outer(g: Tensor, x: Tensor) -> Tensor:
    """g.T @ x of g (N, V) and x (N, D): (V, D), a linear layer's gradient. It has none itself."""
    if not suits(x, g.T):
        return g.T @ x
    like, mask = x.new_empty(g.shape[1], x.shape[1], 1, 1), [False, True, False]
    found = torch.ops.aten.convolution_backward(
        pixels(g), pixels(x), like, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask
    )
    return found[1].flatten(1)


class Linears(TorchFunctionMode):
    """Within it, `torch.nn.functional.linear`, so that of every module, is `linear`."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs:  # as modules call it
            return linear(*args)
        return func(*args, **(kwargs or {}))


def as_now() -> AbstractContextManager[Any]:
    """Within it linear layers are what they are where this is called.

    For what is computed again in a backward pass and has to come out alike: torch suspends function modes
    there.
    """
    modes = torch.overrides._get_current_function_mode_stack()  # there is no public way to ask
    return Linears() if any(isinstance(mode, Linears) for mode in modes) else nullcontext()


class Heap:
    """Makes glibc's `malloc` keep what is freed, while anybody wants it to."""

    KEEP, USUAL = (0, 2**31 - 1, 2**26), (2**16, 2**17, 2**17)
    OPTIONS = -4, -1, -2  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h

    def __init__(self) -> None:
        self.wanted = 0

    def _set(self, values: tuple[int, int, int]) -> bool:
        if platform.libc_ver()[0] != "glibc":
            return False
        libc = ctypes.CDLL(None)
        return all(libc.mallopt(option, value) for option, value in zip(self.OPTIONS, values, strict=True))

    def shed(self) -> None:
        """Give free memory back to the system, also where it lies between what is in use.

        What is kept and what is freed may come to lie so that nothing large fits between them any more, and
        memory would grow with each large tensor.
        """
        if self.wanted and platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Freed memory stays, 2 GiB of it at most, and goes back to the system when this is over."""
        self.wanted += 1
        keeps = self.wanted == 1 and self._set(self.KEEP)
        try:
            yield
        finally:
            self.wanted -= 1
            if keeps and self._set(self.USUAL):
                ctypes.CDLL(None).malloc_trim(0)


HEAP = Heap()


@contextmanager
def at_full_rate(device: torch.device) -> Iterator[None]:
    """Within it a CPU works as fast as it can; any other device as always.

    Linear layers then differ from torch's in their last bits, where `slow_mkl`, and always in the same way.
    """
    if device.type != "cpu":
        yield
        return
    with HEAP.kept():
        if slow_mkl():
            with Linears():
                yield
        else:
            yield
