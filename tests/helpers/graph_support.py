"""Receptive fields found the slow way: which pixels have a gradient when no two paths can cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Box = tuple[int, int, int, int]

_IDENTITY = {
    "relu", "relu_", "relu6", "hardtanh", "silu", "gelu", "hardswish", "leaky_relu", "elu", "batch_norm", "layer_norm",
    "group_norm", "instance_norm", "dropout", "local_response_norm",
}  # fmt: skip
_ONES = {"sigmoid", "sigmoid_", "hardsigmoid"}


class PositivePaths(TorchFunctionMode):
    """Make a network linear with positive weights, so that every path from a pixel to a unit shows in its gradient.

    Activations and normalisations pass their input on, gates are 1, max-pools average, kernels are positive and
    random.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _IDENTITY:
            return args[0] if args else kwargs["input"]
        if name in _ONES:
            return torch.ones_like(args[0])
        if name in ("conv2d", "conv_transpose2d", "linear") and isinstance(args[1], Tensor):
            weight = positive(args[1])
            if len(args) > 2:
                args = (args[0], weight, None, *args[3:])
            else:
                args, kwargs = (args[0], weight), {**kwargs, "bias": None}
        if name in ("max_pool2d", "boolean_dispatch", "fn"):
            return averaged(*args, **kwargs)
        return func(*args, **kwargs)


def positive(weight: Tensor) -> Tensor:
    """Return random weights in [0.5, 1.5], divided by their number for one output."""
    drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (drawn + 0.5) / weight[0].numel()


def averaged(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Sum instead of taking the maximum, with the max-pool's own windows."""
    with torch.no_grad():
        shape = F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode).shape
    kernel, step, pad, gap = (
        (v, v) if isinstance(v, int) else tuple(v)
        for v in (kernel_size, stride or kernel_size, padding, dilation)
    )
    weight = torch.full((x.shape[1], 1, *kernel), 1.0 / (kernel[0] * kernel[1]), dtype=x.dtype)
    padded = F.pad(x, (pad[1], pad[1] + 64, pad[0], pad[0] + 64))
    summed = F.conv2d(padded, weight, None, step, 0, gap, x.shape[1])
    return summed[:, :, : shape[2], : shape[3]]


class _Enough(Exception):
    pass


def positive_maps(
    network: nn.Module, layers: Sequence[str], image: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the layers' outputs on the linear positive network, and the image, which requires grad.

    The last of ``layers`` must be the one that comes last.
    """
    pixels = image[:1].double().requires_grad_()
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
            outputs[name] = output.clone()
            if name == layers[-1]:
                raise _Enough

        return hook

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    try:
        with PositivePaths():
            network(pixels)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return outputs, pixels


def support(value: Tensor, pixels: Tensor) -> Box:
    """Return the bounding box (half-open) of the pixels that ``value`` depends on; zeros when there are none."""
    (gradient,) = torch.autograd.grad(value, pixels, retain_graph=True, allow_unused=True)
    if gradient is None:
        return (0, 0, 0, 0)
    seen = gradient[0].abs().sum(0) > 0
    rows, cols = seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist()
    return (rows[0], cols[0], rows[-1] + 1, cols[-1] + 1) if rows else (0, 0, 0, 0)


def some(count: int, most: int) -> list[int]:
    """Return up to ``most`` indices below ``count``: the edges, the middle, and some between."""
    return sorted({round(i * (count - 1) / max(most - 1, 1)) for i in range(most)})


def check_boxes(
    box: Callable[[int, int], Box], output: Tensor, pixels: Tensor, most: int, dims: tuple[int, int] = (2, 3)
) -> None:
    """Compare boxes with supports for units on both diagonals of the map."""
    height, width = (output.shape[dim] for dim in dims)
    for step in range(most):
        row = some(height, most)[min(step, len(some(height, most)) - 1)]
        for col in {
            some(width, most)[min(step, len(some(width, most)) - 1)],
            width - 1 - row if row < width else 0,
        }:
            later, earlier = (
                ((dims[1], col), (dims[0], row)) if dims[1] > dims[0] else ((dims[0], row), (dims[1], col))
            )
            unit = output.select(*later).select(*earlier).sum()
            assert box(row, col) == support(unit, pixels), (row, col)
