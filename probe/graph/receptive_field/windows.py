"""Receptive-field rules of convolutions, poolings, padding and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from probe.graph.receptive_field.spans import NOTHING, Call, Field, Rule, SpatialDim


def convolution(call: Call) -> Field:
    """Slide the kernel, normally or transposed; channels are combined within their group."""
    field = call.field(call.values["input"])
    weight = call.values["weight"]
    dynamic = call.field(weight)
    if field is None:
        raise NotImplementedError("kernels that come from the image")
    transposed = call.values["transposed"]
    options = [_each(call.values[name], weight.dim() - 2) for name in ("stride", "padding", "dilation")]
    axes = [_channels(axis, call.values["groups"], call.outputs[0].shape[1]) for axis in field.axes]
    for index, (stride, padding, dilation) in enumerate(zip(*options, strict=True)):
        dim = index + 2
        kernel, length, out = weight.shape[dim], call.main.shape[dim], call.outputs[0].shape[dim]
        if transposed:
            taps, step = _transposed(out, kernel, stride, padding, dilation), Fraction(1, stride)
        else:
            taps, step = sliding(out, kernel, stride, padding, dilation), Fraction(stride)
        axes = [axis.window(dim, length, taps, step=step) for axis in axes]
    result = replace(field, rows=axes[0], cols=axes[1], flat=frozenset())
    return result if dynamic is None else result.noting([call.where, *dynamic.gates], dynamic.unknown)


def pool(call: Call) -> Field | None:
    """Slide a pooling window."""
    kernel = call.values["kernel_size"]
    ndim = call.main.dim()
    first = ndim - int(call.name[call.name.index("pool") + 4])
    sizes = _each(kernel, ndim - first)
    strides = _each(call.values["stride"] or sizes, ndim - first)
    paddings = _each(call.values["padding"], ndim - first)
    dilations = _each(call.values.get("dilation", 1), ndim - first)
    field = call.field(call.main)
    for index, options in enumerate(zip(sizes, strides, paddings, dilations, strict=True)):
        dim = first + index
        taps = sliding(call.outputs[0].shape[dim], *options)
        field = _windowed(field, call, dim, taps, step=Fraction(options[1]))
    return field


def adaptive_pool(call: Call) -> Field | None:
    """Divide each dimension into one nearly equal window per output."""
    field = call.field(call.main)
    ndim, out = call.main.dim(), call.outputs[0].shape
    for dim in range(ndim - len(call.values["output_size"]), ndim):
        n, m = call.main.shape[dim], out[dim]
        if m == 1 and n > 1 and field is not None:
            field = field.map_axes(lambda axis, dim=dim: axis.hull([dim]))  # type: ignore[misc]
            continue
        starts = torch.arange(m) * n // m
        ends = -(-(torch.arange(m) + 1) * n // m)
        taps = starts[:, None] + torch.arange(int((ends - starts).max()))
        field = _windowed(field, call, dim, taps.where(taps < ends[:, None], NOTHING), step=Fraction(n, m))
    return field


def pad(call: Call) -> Field | None:
    """Add constant, reflected or repeated borders, or remove borders."""
    widths = call.values["pad" if "pad" in call.values else "padding"]
    field, ndim = call.field(call.main), call.main.dim()
    for index in range(len(widths) // 2):
        dim = ndim - 1 - index
        n, before = call.main.shape[dim], widths[2 * index]
        free = (torch.arange(call.outputs[0].shape[dim]) - before)[:, None]
        taps = free
        if call.name.startswith("reflection"):
            taps = (n - 1) - (free.abs() - (n - 1)).abs()
        elif call.name.startswith("replication"):
            taps = free.clamp(0, n - 1)
        field = _windowed(field, call, dim, taps, free)
    return field


def resample(call: Call) -> Field | None:
    """Interpolate; the inputs that an output reads are determined by resampling unit vectors."""
    field, ndim = call.field(call.main), call.main.dim()
    size = list(call.outputs[0].shape[2:])
    flat = set()
    for dim in range(2, ndim):
        n = call.main.shape[dim]
        if n == 1:
            flat.add(dim)
            continue
        taps = _seen(call, dim, n, size[dim - 2])
        field = _windowed(field, call, dim, taps, step=Fraction(n, size[dim - 2]))
    return None if field is None else replace(field, flat=frozenset(flat))


def _seen(call: Call, dim: int, n: int, out: int) -> Tensor:
    shape = [1] * call.main.dim()
    shape[1] = shape[dim] = n
    basis = torch.eye(n, dtype=torch.float64).view(shape)
    names = list(call.values)
    changed: dict[str, Any] = {
        names[0]: basis,
        "output_size": [out if d == dim else 1 for d in range(2, len(shape))],
    }
    scales = [name for name in names if name.startswith("scales")]
    changed |= {name: None for index, name in enumerate(scales) if index + 2 != dim}
    read = call.run(changed).view(n, out).T != 0
    count = int(read.sum(1).max())
    return torch.where(read, torch.arange(n), NOTHING).sort(1).values[:, :count]


def sliding(out: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> Tensor:
    """Return the positions (out, kernel) that each output of a sliding window reads."""
    return torch.arange(out)[:, None] * stride - padding + torch.arange(kernel) * dilation


def _transposed(out: int, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    reach = torch.arange(out)[:, None] + padding - torch.arange(kernel) * dilation
    return torch.where(reach % stride == 0, reach // stride, NOTHING)


def _windowed(
    field: Field | None,
    call: Call,
    dim: int,
    taps: Tensor,
    endless: Tensor | None = None,
    step: Fraction = Fraction(1),
) -> Field | None:
    if field is None:
        return None
    return field.map_axes(lambda axis: axis.window(dim, call.main.shape[dim], taps, endless, step))


def _channels(axis: SpatialDim, groups: int, out: int) -> SpatialDim:
    if not axis.varies(1):
        return axis
    if groups == 1:
        return axis.hull([1])
    four, batch, channels, *rest = axis.bounds.shape
    bounds = axis.bounds.reshape(four, batch, groups, channels // groups, *rest).amin(3)
    return SpatialDim(bounds.repeat_interleave(out // groups, 2), axis.walk, axis.jump)


def _each(value: int | Sequence[int], count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


RULES: dict[str, Rule] = {
    "convolution": convolution,
    **dict.fromkeys(
        ("avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d"), pool
    ),
    **dict.fromkeys(
        ("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d"), adaptive_pool
    ),
    "constant_pad_nd": pad,
    **{f"{kind}_pad{d}d": pad for kind in ("reflection", "replication") for d in (1, 2, 3)},
    **{
        f"upsample_{kind}": resample
        for kind in (
            "nearest1d", "nearest2d", "nearest3d", "_nearest_exact2d", "linear1d", "bilinear2d", "bicubic2d",
            "trilinear3d",
        )
    },
    **dict.fromkeys(("_upsample_nearest_exact2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), resample),
}  # fmt: skip
