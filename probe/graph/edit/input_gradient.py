"""Convolutions whose gradient with respect to their input is itself a forward convolution, where that is faster.

An attack and an optimised picture need the gradient with respect to pixels only. PyTorch computes it by kernels of which
some are slow on a CPU: in bfloat16, that of a depthwise convolution with stride 2 takes 20 to 130 times as long as what is
here (96 to 672 channels, batches of 8), with stride 1 twice as long, and that of a first layer of 7×7 with stride 2 more
than twice as long. The values are the same sums in another order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

_FEW = 4
"""Input channels up to which the gradient of a strided first layer is computed from its phases."""

_LARGE_KERNEL = 5

Pair = tuple[int, int]


def with_quick_gradients(module: nn.Module) -> nn.Module:
    """Let a network's convolutions compute the gradient of their input by forward convolutions where that is faster; in place.

    ``module`` is a copy for that purpose, on a CPU, whose weights need no gradients; where they do, and for second derivatives,
    its convolutions are PyTorch's own. Subclasses of ``nn.Conv2d`` keep their forward pass. Returns the module.
    """
    for sub in module.modules():
        if isinstance(sub, nn.Conv2d) and not isinstance(sub, _Quick) and _may_be_quicker(sub):
            sub.__class__ = _quick(type(sub))  # type: ignore[arg-type]
    return module


def slow_in_bf16(module: nn.Module) -> bool:
    """Return whether a network has a depthwise convolution without quick gradients, which bfloat16 makes slower on a CPU."""
    return any(
        isinstance(sub, nn.Conv2d) and sub.groups == sub.in_channels > 1 and not isinstance(sub, _Quick)
        for sub in module.modules()
    )


def _may_be_quicker(sub: nn.Conv2d) -> bool:
    depthwise = sub.groups == sub.in_channels == sub.out_channels > 1
    first = sub.groups == 1 and sub.in_channels <= _FEW and min(sub.kernel_size) >= _LARGE_KERNEL
    return sub.weight.device.type == "cpu" and (depthwise or first)


@dataclass(frozen=True)
class _Shape:
    """What a convolution does: its stride, padding and dilation (rows, columns), and its groups."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


class _Convolution(torch.autograd.Function):
    """A convolution whose backward pass gives the gradient of its input only."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, shape: _Shape) -> Tensor:
        context.save_for_backward(weight)
        context.shape, context.size, context.dtype = shape, x.shape, x.dtype
        return F.conv2d(x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = context.saved_tensors
        (gradient,) = gradients
        shape: _Shape = context.shape
        of_input = _depthwise if shape.groups > 1 else _of_few_channels
        result = of_input(gradient, weight.to(gradient.dtype), shape, context.size)
        return result.to(context.dtype), None, None, None


class _Router(TorchFunctionMode):
    """Sends convolutions that only need the gradient of their input through ``_Convolution``."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d:
            found = _arguments(*args, **(kwargs or {}))
            if found is not None:
                return _Convolution.apply(*found)
        return func(*args, **(kwargs or {}))


def _arguments(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, _Shape] | None:
    """Return the arguments of ``_Convolution`` for those of ``conv2d``, None where PyTorch's own is needed or as fast."""
    needs_more = weight.requires_grad or (bias is not None and bias.requires_grad)
    if (
        not (torch.is_grad_enabled() and input.requires_grad)
        or needs_more
        or input.ndim != 4
        or padding in ("same", "valid")
    ):
        return None
    shape = _Shape(_pair(stride), _pair(padding), _pair(dilation), groups)
    reach = [d * (k - 1) for d, k in zip(shape.dilation, weight.shape[2:], strict=True)]
    if groups > 1:
        fits = weight.shape[0] == groups and weight.shape[1] == 1
        fits = fits and all(p <= r for p, r in zip(shape.padding, reach, strict=True))
    else:
        fits = shape.stride != (1, 1) and shape.dilation == (1, 1)
    return (input, weight, bias, shape) if fits else None


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


class _Quick:
    """Mixed into a convolution's own class."""

    def forward(self, *args: Any, **options: Any) -> Any:
        """Return what the convolution returns."""
        with _Router():
            return super().forward(*args, **options)  # type: ignore[misc]


@cache
def _quick(base: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """Return the class of a convolution with quick gradients, made once."""
    return type(base.__name__, (_Quick, base), {"__module__": base.__module__})


def _depthwise(gradient: Tensor, weight: Tensor, shape: _Shape, size: torch.Size) -> Tensor:
    """Return the gradient of the input of a depthwise convolution: the flipped kernel over the gradient, spread by the stride."""
    reach = [d * (k - 1) for d, k in zip(shape.dilation, weight.shape[2:], strict=True)]
    margin = [r - p for r, p in zip(reach, shape.padding, strict=True)]
    flipped = weight.flip(2, 3)
    if shape.stride == (1, 1):
        return F.conv2d(gradient, flipped, None, 1, margin, shape.dilation, shape.groups)
    if gradient.dtype == torch.float32:
        return nn.grad.conv2d_input(  # type: ignore[no-any-return,attr-defined]
            size, weight, gradient, shape.stride, shape.padding, shape.dilation, shape.groups
        )
    spread = torch.empty(
        (*gradient.shape[:2], size[2] + reach[0], size[3] + reach[1]),
        dtype=gradient.dtype,
        device=gradient.device,
        memory_format=torch.channels_last,
    ).zero_()
    rows, columns = (
        slice(m, m + (n - 1) * s + 1, s)
        for m, n, s in zip(margin, gradient.shape[2:], shape.stride, strict=True)
    )
    spread[:, :, rows, columns] = gradient
    return F.conv2d(spread, flipped, None, 1, 0, shape.dilation, shape.groups)


def _of_few_channels(gradient: Tensor, weight: Tensor, shape: _Shape, size: torch.Size) -> Tensor:
    """Return the gradient of the input of a strided convolution with few input channels.

    The pixels whose row and column leave the same rest when divided by the stride, a phase, see the same part of the kernel:
    each phase is a convolution of the gradient without stride, and all are computed as output channels of one.
    """
    (down, across), (high, wide) = shape.stride, weight.shape[2:]
    vertical, horizontal = _taps(high, down, shape.padding[0]), _taps(wide, across, shape.padding[1])
    top, bottom = _range(vertical)
    left, right = _range(horizontal)
    kernel = weight.new_zeros(
        weight.shape[1], down, across, weight.shape[0], bottom - top + 1, right - left + 1
    )
    for a, rows in enumerate(vertical):
        for b, columns in enumerate(horizontal):
            for row, tap in rows:
                for column, other in columns:
                    kernel[:, a, b, :, row - top, column - left] = weight[:, :, tap, other].t()
    kernel = kernel.flatten(0, 2).contiguous(memory_format=torch.channels_last)
    height, width = -(-size[2] // down), -(-size[3] // across)
    # What is padded with a negative number is cut off.
    sides = (-left, width - gradient.shape[3] + right, -top, height - gradient.shape[2] + bottom)
    phases = F.conv2d(F.pad(gradient, sides), kernel)
    return _interleaved(phases, down, across)[:, :, : size[2], : size[3]]


def _taps(kernel: int, stride: int, padding: int) -> list[list[tuple[int, int]]]:
    """Return for each phase the pairs (offset in the gradient, place in the kernel) along one axis."""
    return [
        [
            ((phase + padding) // stride - number, tap)
            for number, tap in enumerate(range((phase + padding) % stride, kernel, stride))
        ]
        for phase in range(stride)
    ]


def _range(taps: list[list[tuple[int, int]]]) -> Pair:
    offsets = [offset for phase in taps for offset, _ in phase]
    return min(offsets), max(offsets)


def _interleaved(phases: Tensor, down: int, across: int) -> Tensor:
    """Return (N, C, H·down, W·across) from (N, C·down·across, H, W)."""
    if down == across:
        return F.pixel_shuffle(phases, down)
    n, _, height, width = phases.shape
    parts = phases.view(n, -1, down, across, height, width)
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(n, -1, height * down, width * across)
