"""Linear bounds of the operations that are not affine, as functions whose backward pass applies them.

The bound of a network that is affine but for these is found by going backwards with the coefficients A of its output: through
affine operations A is multiplied with their matrix, which is what automatic differentiation does; through a relaxed
operation h(z), A·h is replaced by a smaller linear function of z. Constants are collected on the way (``Sink``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


@dataclass
class Sink:
    """The constant of a linear bound, (rows,), summed over the relaxed operations of one backward pass."""

    total: Tensor | float = 0.0

    def add(self, rows: Tensor) -> None:
        """Add the sum over all but the first dimension."""
        self.total = self.total + rows.flatten(1).sum(1)


class _Relu(Function):
    """ReLU with bounds of its input: α z ≤ relu(z) ≤ u (z − l) / (u − l) (Zhang 2018)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, low: Tensor, high: Tensor, sink: Sink) -> Tensor:
        ctx.save_for_backward(z, low, high)
        ctx.sink = sink
        return z.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (a,) = grads
        z, low, high = ctx.saved_tensors
        open_ = (low < 0) & (high > 0)
        on = (low >= 0).to(z)
        upper = torch.where(open_, high / (high - low).clamp_min(torch.finfo(z.dtype).tiny), on)
        lower = torch.where(open_, (high > -low).to(z), on)
        down = a * torch.where(a >= 0, lower, upper)
        ctx.sink.add(down * z - a * z.clamp_min(0) + torch.where(open_, a.clamp_max(0) * -upper * low, 0))
        return down, None, None, None


def relu(z: Tensor, low: Tensor, high: Tensor, sink: Sink) -> Tensor:
    """Return relu(z), (rows, …), with bounds of ``z`` of the same shape."""
    result: Tensor = _Relu.apply(z, low, high, sink)
    return result


class _MaxPool(Function):
    """Maximum of windows: at least the value with the largest lower bound, at most the largest upper bound."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, low: Tensor, high: Tensor, pool: dict[str, Any], sink: Sink) -> Tensor:
        h: Tensor = F.max_pool2d(z, **pool)
        floor, place = F.max_pool2d(low, **pool, return_indices=True)
        ceiling: Tensor = F.max_pool2d(high, **pool)
        own = high.flatten(-2).gather(-1, place.flatten(-2)).view_as(place)
        exact = _larger(high, floor, pool) <= (own > floor).to(torch.int64)
        ctx.save_for_backward(z, h, place, ceiling, exact)
        ctx.sink = sink
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (a,) = grads
        z, h, place, ceiling, exact = ctx.saved_tensors
        passed = torch.where((a >= 0) | exact, a, 0)
        down = (
            torch.zeros_like(z).flatten(-2).scatter_add(-1, place.flatten(-2), passed.flatten(-2)).view_as(z)
        )
        ctx.sink.add((a - passed) * ceiling - a * h)
        ctx.sink.add(down * z)
        return down, None, None, None, None


def max_pool2d(z: Tensor, low: Tensor, high: Tensor, pool: dict[str, Any], sink: Sink) -> Tensor:
    """Return F.max_pool2d(z, **pool), (rows, C, H, W), with bounds of ``z`` of the same shape."""
    result: Tensor = _MaxPool.apply(z, low, high, pool, sink)
    return result


def _larger(values: Tensor, floor: Tensor, pool: dict[str, Any]) -> Tensor:
    """Return how many values of each window are larger than ``floor``, which has one number a window."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        _two(pool[name]) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    height, width = floor.shape[-2:]
    down, right = (height - 1) * sh + (kh - 1) * dh + 1, (width - 1) * sw + (kw - 1) * dw + 1
    edge = (pw, max(0, right - values.shape[-1] - pw), ph, max(0, down - values.shape[-2] - ph))
    padded = F.pad(values, edge, value=-torch.inf)
    count = torch.zeros_like(floor, dtype=torch.int64)
    for i in range(kh):
        for j in range(kw):
            part = padded[..., i * dh :: sh, j * dw :: sw][..., :height, :width]
            count += part > floor
    return count


def _two(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
