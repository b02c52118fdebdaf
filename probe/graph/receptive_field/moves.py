"""Receptive-field rules of operations that move elements without computing."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from probe.graph.receptive_field.spans import Call, Field, Rule, SpatialDim, compress, nothing

_VIEWS = (
    "expand",
    "permute",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unsqueeze",
)
_OTHERS = (
    "channel_shuffle",
    "flip",
    "index",
    "index_select",
    "pixel_shuffle",
    "pixel_unshuffle",
    "repeat",
    "roll",
    "unfold",
)
_SAME = (
    "_to_copy",
    "alias",
    "clone",
    "contiguous",
    "detach",
    "dropout",
    "lift",
    "lift_fresh",
    "native_dropout",
    "positive",
)
_RESHAPES = ("_reshape_alias", "_unsafe_view", "reshape", "view")
_CONSTANTS = (
    "empty", "empty_like", "fill", "full_like", "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros",
    "ones_like", "rand_like", "randn_like", "zero", "zeros_like", "normal", "uniform", "bernoulli",
)  # fmt: skip


def same(call: Call) -> Field | None:
    """Return the field unchanged."""
    return call.field(call.main)


def constant(call: Call) -> None:
    """Return values that do not depend on the image."""


def copy(call: Call) -> Field | None:
    """Write the second argument into the first."""
    source = call.values["src"]
    field = call.field(source)
    if field is None:
        return None
    ndim = call.main.dim()
    field = field.aligned(ndim)
    repeated = {d for d, size in enumerate([1] * (ndim - source.dim()) + list(source.shape)) if size == 1}
    return replace(field, flat=field.flat | {d for d in repeated if call.main.shape[d] > 1})


def move(call: Call) -> tuple[Field | None, ...]:
    """Move the intervals as the operation moves the elements."""
    field = _only(call)
    if field is None:
        return (None,) * len(call.outputs)
    rows, cols = (_moved(call, axis) for axis in field.axes)
    flat: list[frozenset[int]] = [frozenset()] * len(call.outputs)
    if call.name in _VIEWS:
        origins = _origins(call)
        rows, cols = (
            [
                axis
                if axis.walk is not None or old.walk is None
                else replace(axis, walk=_last(origin, old.walk))
                for axis, origin in zip(axes, origins, strict=True)
            ]
            for axes, old in ((rows, field.rows), (cols, field.cols))
        )
        flat = [
            frozenset(d for d, source in enumerate(origin) if source == -1 or source in field.flat)
            for origin in origins
        ]
    return tuple(replace(field, rows=r, cols=c, flat=f) for r, c, f in zip(rows, cols, flat, strict=True))


def reshape(call: Call) -> Field | None:
    """Regroup dimensions."""
    field = call.field(call.main)
    if field is None:
        return None
    old, new = list(call.main.shape), list(call.outputs[0].shape)
    if prod(old) == 0:
        raise NotImplementedError("tensors without elements")
    unchanged = _unchanged_dims(old, new)
    result = field.map_axes(lambda axis: _reshaped(axis, old, new, unchanged))
    return replace(result, flat=frozenset(unchanged[d] for d in field.flat if d in unchanged))


def cat(call: Call) -> Field:
    """Concatenate tensors along a dimension."""
    tensors = [tensor for tensor in call.values["tensors"] if tensor.dim() > 1 or tensor.numel()]
    stacked = call.name == "stack"
    ndim = call.outputs[0].dim()
    dim = call.values["dim"] % ndim
    fields = [call.field(tensor) for tensor in tensors]
    known = [field.settled() for field in fields if field is not None]
    both = []
    for index in (0, 1):
        axes = [
            nothing(tensor.dim()) if field is None else field.settled().axes[index]
            for tensor, field in zip(tensors, fields, strict=True)
        ]
        both.append(
            _in_a_row(axes, [1 if stacked else tensor.shape[dim] for tensor in tensors], dim, stacked)
        )
    result = Field(both[0], both[1])
    for field in known:
        result = result.noting(field.gates, field.unknown)
    return result


def _in_a_row(axes: list[SpatialDim], lengths: list[int], dim: int, stacked: bool) -> SpatialDim:
    if stacked:
        axes = [_unsqueezed(axis, dim) for axis in axes]
    shape = _broadcast([_without(axis.bounds, dim) for axis in axes])
    parts = [
        axis.bounds.expand(*shape[: dim + 1], length, *shape[dim + 2 :])
        for axis, length in zip(axes, lengths, strict=True)
    ]
    bounds = compress(torch.cat(parts, dim + 1))
    walking = [axis for axis in axes if axis.walk is not None] or axes
    if any(axis.walk != walking[0].walk for axis in walking):
        return walking[0].with_bounds(bounds, None)
    return replace(walking[0], bounds=bounds)


def _broadcast(shapes: list[list[int]]) -> list[int]:
    return [max(sizes) for sizes in zip(*shapes, strict=True)]


def _unsqueezed(axis: SpatialDim, dim: int) -> SpatialDim:
    walk = axis.walk if axis.walk is None or axis.walk < dim else axis.walk + 1
    return replace(axis, bounds=axis.bounds.unsqueeze(dim + 1), walk=walk)


def _without(bounds: Tensor, dim: int) -> list[int]:
    shape = list(bounds.shape)
    shape[dim + 1] = 1
    return shape


def _only(call: Call) -> Field | None:
    if any(call.field(value) is not None for value in list(call.values.values())[1:]):
        raise NotImplementedError("positions that come from the image")
    return call.field(call.main)


def _moved(call: Call, axis: SpatialDim) -> list[SpatialDim]:
    name = next(iter(call.values))
    shape = call.main.shape
    parts = [_listed(call.run({name: bounds.expand(shape)})) for bounds in axis.bounds]
    moved = []
    for four in zip(*parts, strict=True):
        bounds = compress(torch.stack(four))
        moved.append(axis.with_bounds(bounds, None))
    return moved


def _origins(call: Call) -> list[list[int]]:
    """Return, for each output and dimension, the source dimension of the input (−1: repeated, −2: new)."""
    primes = (1009, 2003, 3001, 4001, 5003, 6007, 7001, 8009)
    shape = call.main.shape
    probe = torch.empty_strided(shape, primes[: len(shape)], device="meta")
    outputs = _listed(call.run({next(iter(call.values)): probe}))
    known = {stride: dim for dim, stride in enumerate(primes[: len(shape)])}
    return [
        [-1 if stride == 0 else known.get(stride, -2) for stride in output.stride()] for output in outputs
    ]


def _last(origin: list[int], walk: int) -> int | None:
    dims = [dim for dim, source in enumerate(origin) if source == walk]
    return dims[-1] if dims else None


def _listed(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _unchanged_dims(old: list[int], new: list[int]) -> dict[int, int]:
    """Return the dimensions that a reshape does not change, old → new, matched from both ends."""
    unchanged: dict[int, int] = {}
    front = 0
    while front < min(len(old), len(new)) and old[front] == new[front]:
        unchanged[front] = front
        front += 1
    back = 1
    while back <= min(len(old), len(new)) - front and old[-back] == new[-back]:
        unchanged[len(old) - back] = len(new) - back
        back += 1
    return unchanged


def _reshaped(axis: SpatialDim, old: list[int], new: list[int], unchanged: dict[int, int]) -> SpatialDim:
    source, target = [], []
    for before, after in _blocks(old, new):
        varies = any(axis.varies(dim) for dim in before)
        source += [old[dim] if varies else 1 for dim in before]
        target += [new[dim] if varies else 1 for dim in after]
    bounds = compress(axis.bounds.expand(4, *source).reshape(4, *target))
    if axis.walk in unchanged:
        return replace(axis, bounds=bounds, walk=unchanged[axis.walk])
    return axis.with_bounds(bounds, None)


def _blocks(old: list[int], new: list[int]) -> list[tuple[list[int], list[int]]]:
    """Split two shapes of the same number of elements into the smallest groups that correspond."""
    blocks, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        before, after = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(before), j + len(after)
        while prod(old[d] for d in before) != prod(new[d] for d in after):
            if prod(old[d] for d in before) < prod(new[d] for d in after):
                before.append(i)
                i += 1
            else:
                after.append(j)
                j += 1
        blocks.append((before, after))
    return blocks


RULES: dict[str, Rule] = {
    **dict.fromkeys(_VIEWS + _OTHERS, move),
    **dict.fromkeys(_SAME, same),
    **dict.fromkeys(_RESHAPES, reshape),
    **dict.fromkeys(_CONSTANTS, constant),
    **dict.fromkeys(("cat", "stack"), cat),
    "copy": copy,
}
