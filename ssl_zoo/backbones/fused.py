"""Elementwise parts of the text transformer with hand-written gradients.

On a CPU torch composes RMSNorm, rotary positions and ReLU^2 from a dozen passes over memory, forward and
backward. The functions here do the same in about half the passes; docs/decisions/0002 says what that is worth
in time. On CUDA and in half precision, RMSNorm and rotary positions are made of torch's own operations, whose
statistics stay in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Turn = tuple[Tensor, Tensor]


def by_hand(x: Tensor) -> bool:
    """Whether hand-written gradients serve x better than torch's operations, which a compiler would fuse."""
    own = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return own and not torch.compiler.is_compiling()


def inverse_rms(x: Tensor) -> Tensor:
    """1 / root mean square over the last dimension, kept: (..., D) -> (..., 1)."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(torch.finfo(x.dtype).eps).rsqrt_()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        r = inverse_rms(x)
        unit = x * r
        ctx.save_for_backward(unit, r, gain)
        return unit * gain

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        unit, r, gain = ctx.saved_tensors
        mean = (g * unit).flatten(0, -2)
        along = (mean @ gain).div_(-unit.shape[-1]).view(r.shape)
        return torch.addcmul(g * gain, unit, along).mul_(r), mean.sum(0)


class _UnitRotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        r = inverse_rms(x)
        y = _turned(x, cos, sin, 1).mul_(r)  # a rotation keeps the norm
        ctx.save_for_backward(y, r, cos, sin)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, r, cos, sin = ctx.saved_tensors
        along = (g * y).sum(-1, keepdim=True).div_(-y.shape[-1])
        return _turned(torch.addcmul(g, y, along), cos, sin, -1).mul_(r), None, None


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        h = x.clamp_min(0)
        ctx.save_for_backward(h)
        return h * h

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (h,) = ctx.saved_tensors
        return (g * h).mul_(2)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    """Turn the two halves of the last dimension as complex pairs, by the angle (sign 1) or back (sign -1)."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    a, b = x.chunk(2, dim=-1)
    real, imaginary = y.chunk(2, dim=-1)
    torch.mul(a, cos, out=real)
    torch.mul(b, cos, out=imaginary)
    real.addcmul_(b, sin, value=-sign)
    imaginary.addcmul_(a, sin, value=sign)
    return y


def rotary(at: Tensor, width: int, base: float) -> Turn:
    """Cosines and sines of positions at: (B or 1, T) -> two of (B or 1, T, 1, width / 2), float32."""
    rate = base ** (-torch.arange(0, width, 2, device=at.device, dtype=torch.float32) / width)
    angle = at[:, :, None, None] * rate
    return angle.cos(), angle.sin()


def unit_rotary(x: Tensor, turn: Turn) -> Tensor:
    """QK-norm without gains, then rotary positions: (B, T, H, d) -> the same shape. turn: see `rotary`."""
    cos, sin = (part.to(x.dtype) for part in turn)
    if by_hand(x):
        return _UnitRotary.apply(x, cos, sin)  # pyright: ignore[reportReturnType]
    a, b = F.rms_norm(x, x.shape[-1:]).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2, which keeps one tensor for the gradient instead of two."""
    return _SquaredReLU.apply(x)  # pyright: ignore[reportReturnType]


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm with gains: the same names of weights, and the same numbers."""

    def __init__(self, width: int):
        super().__init__(width)

    def forward(self, x: Tensor) -> Tensor:
        if by_hand(x):
            return _RMSNorm.apply(x, self.weight)  # pyright: ignore[reportReturnType]
        return super().forward(x)
