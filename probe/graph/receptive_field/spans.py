"""Intervals of image rows and columns that each element of a tensor depends on, and their algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

NOTHING = 1 << 40
"""The lower bound, and the negated upper bound, of an empty interval."""


@dataclass(frozen=True)
class SpatialDim:
    """An interval of image rows (or columns) for every element of a tensor.

    ``bounds`` is int64, (4, *dims), where dims broadcast to the tensor's shape. It has first, −last (inclusive) of
    the pixels that the element actually depends on, then first, −last of its field on an infinite image.
    With negated upper bounds, the union of intervals is a minimum. ``walk`` is the tensor's dimension that corresponds
    to this direction of the image, ``jump`` the pixels per step.
    """

    bounds: Tensor
    walk: int | None
    jump: Fraction

    def varies(self, dim: int) -> bool:
        """Return whether the intervals differ along ``dim``."""
        return self.bounds.shape[dim + 1] > 1

    def hull(self, dims: Iterable[int]) -> SpatialDim:
        """Return the union of the intervals along ``dims``, which are kept with length 1."""
        wanted = set(dims)
        joined = [dim + 1 for dim in sorted(wanted) if self.varies(dim)]
        bounds = self.bounds.amin(joined, keepdim=True) if joined else self.bounds
        return SpatialDim(bounds, None if self.walk in wanted else self.walk, self.jump)

    def window(
        self, dim: int, length: int, taps: Tensor, endless: Tensor | None = None, step: Fraction = Fraction(1)
    ) -> SpatialDim:
        """Make output i depend on the positions ``taps[i]`` along ``dim``, which has ``length`` positions.

        Positions outside are padding and add nothing to the actual field. The infinite field is extrapolated with
        ``jump`` to the positions ``endless`` (by default ``taps``). ``step`` is the stride.
        """
        if length == 0:
            return SpatialDim(nothing(self.bounds.dim() - 1).bounds, self.walk, self.jump)
        inside = (taps >= 0) & (taps < length)
        if not self.varies(dim) and dim != self.walk and bool(inside.any(1).all()):
            return self
        values = self.bounds.movedim(dim + 1, -1)
        values = values.expand(*values.shape[:-1], length)
        true = torch.where(inside, values[:2][..., taps.clamp(0, length - 1)], NOTHING).amin(-1)
        wanted = taps if endless is None else endless
        near = wanted.clamp(0, length - 1)
        beyond = (wanted - near) * int(dim == self.walk)
        shift = torch.stack([_floor(beyond, self.jump), _floor(beyond, -self.jump)])
        shift = shift.view(2, *[1] * (values.dim() - 2), *beyond.shape)
        free = torch.where(wanted != NOTHING, values[2:][..., near] + shift, NOTHING).amin(-1)
        jump = self.jump * step if dim == self.walk else self.jump
        return SpatialDim(torch.cat([true, free]).movedim(-1, dim + 1), self.walk, jump)

    def moved(self, shape: Sequence[int], move: Callable[[Tensor], Tensor]) -> SpatialDim:
        """Apply ``move``, which only moves elements of a tensor of ``shape``, to the intervals."""
        bounds = compress(torch.stack([move(bound.expand(shape)) for bound in self.bounds]))
        return self.with_bounds(bounds, self.walk if bounds.dim() == self.bounds.dim() else None)

    def with_bounds(self, bounds: Tensor, walk: int | None) -> SpatialDim:
        """Return the axis for ``bounds``; if they vary along only one dimension, that is the walk."""
        varying = [dim for dim in range(bounds.dim() - 1) if bounds.shape[dim + 1] > 1]
        if len(varying) != 1:
            return SpatialDim(bounds, walk if not varying else None, self.jump)
        first = bounds[2].flatten()
        return SpatialDim(bounds, varying[0], Fraction(int(first[1] - first[0])))


@dataclass(frozen=True)
class Field:
    """The ``rows`` and ``cols`` of the image that a tensor's elements depend on.

    Along the dimensions ``flat``, the tensor is a repeated value. ``gates`` are the places where a map was combined with
    values of the whole image that ``rows`` and ``cols`` ignore; ``unknown`` are operations that count as
    depending on the whole image.
    """

    rows: SpatialDim
    cols: SpatialDim
    flat: frozenset[int] = frozenset()
    gates: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[SpatialDim, SpatialDim]:
        """Rows, then columns."""
        return self.rows, self.cols

    def map_axes(
        self, change: Callable[[SpatialDim], SpatialDim], flat: frozenset[int] = frozenset()
    ) -> Field:
        """Apply the same change to both axes."""
        return replace(self, rows=change(self.rows), cols=change(self.cols), flat=flat)

    def noting(self, gates: Iterable[str] = (), unknown: Iterable[str] = ()) -> Field:
        """Return the field with additional notes."""
        return replace(
            self,
            gates=tuple(dict.fromkeys((*self.gates, *gates))),
            unknown=tuple(dict.fromkeys((*self.unknown, *unknown))),
        )

    def aligned(self, ndim: int) -> Field:
        """Add leading dimensions until there are ``ndim``, as broadcasting does."""
        more = ndim - (self.rows.bounds.dim() - 1)
        if not more:
            return self
        flat = frozenset({*range(more), *(dim + more for dim in self.flat)})
        return self.map_axes(
            lambda axis: SpatialDim(
                axis.bounds[(slice(None), *[None] * more)],
                None if axis.walk is None else axis.walk + more,
                axis.jump,
            ),
            flat,
        )

    def settled(self) -> Field:
        """Make elements that are empty in one direction empty in both."""
        empty = [(axis.bounds[0] + axis.bounds[1] > 0) for axis in self.axes]
        if not (bool(empty[0].any()) or bool(empty[1].any())):
            return self
        either = empty[0] | empty[1]

        def cleared(axis: SpatialDim) -> SpatialDim:
            true = torch.where(either, NOTHING, axis.bounds[:2])
            return replace(axis, bounds=compress(torch.cat([true, axis.bounds[2:].expand_as(true)])))

        return self.map_axes(cleared, self.flat)


def pixels(height: int, width: int) -> Field:
    """Return the field of the image (N, C, ``height``, ``width``) itself."""

    def axis(length: int, walk: int) -> SpatialDim:
        index = torch.arange(length)
        shape = [1, 1, 1, 1]
        shape[walk] = length
        return SpatialDim(torch.stack([index, -index, index, -index]).view(4, *shape), walk, Fraction(1))

    return Field(axis(height, 2), axis(width, 3))


def whole(height: int, width: int, ndim: int) -> Field:
    """Return the field of a tensor whose elements all depend on the whole image."""

    def axis(length: int) -> SpatialDim:
        bounds = torch.tensor([0, 1 - length, 0, 1 - length]).view(4, *[1] * ndim)
        return SpatialDim(bounds, None, Fraction(1))

    return Field(axis(height), axis(width))


def nothing(ndim: int) -> SpatialDim:
    """Return the axis of a tensor that does not depend on the image."""
    return SpatialDim(torch.full((4, *[1] * ndim), NOTHING), None, Fraction(1))


def joined(
    first: Field, second: Field, shapes: Sequence[Sequence[int]], where: str, gates: bool = True
) -> Field:
    """Combine the fields of two operands that broadcast against each other; their ``shapes`` are aligned.

    A map that is combined with one value of the whole image, the same at every position (a gate), keeps its own field,
    and the place is recorded. With ``gates`` False, the gate is an ordinary operand.
    """
    ndim = len(shapes[0])
    single = [
        {dim for dim in range(ndim) if shape[dim] == 1} | field.flat
        for shape, field in zip(shapes, (first, second), strict=True)
    ]
    first, second = first.settled(), second.settled()
    axes, met = [], False
    for axis, other in zip(first.axes, second.axes, strict=True):
        if gates and _is_gate(axis, other, single[0], single[1]):
            axes.append(axis)
            met |= _adds(other, axis)
        elif gates and _is_gate(other, axis, single[1], single[0]):
            axes.append(other)
            met |= _adds(axis, other)
        else:
            axes.append(_union(axis, other))
    flat = frozenset((single[0] & single[1]) - {d for d in range(ndim) if shapes[0][d] == shapes[1][d] == 1})
    both = Field(axes[0], axes[1], flat, first.gates, first.unknown)
    return both.noting((*second.gates, *([where] if met else [])), second.unknown)


def _is_gate(first: SpatialDim, other: SpatialDim, first_single: set[int], other_single: set[int]) -> bool:
    walk = first.walk
    if walk is None or walk in first_single or walk not in other_single:
        return False
    return bool((other.bounds[:2] <= first.hull([walk]).bounds[:2]).all())


def _adds(other: SpatialDim, first: SpatialDim) -> bool:
    return not bool((first.bounds[:2] <= other.bounds[:2]).all())


def _union(first: SpatialDim, other: SpatialDim) -> SpatialDim:
    bounds = torch.minimum(first.bounds, other.bounds)
    if first.walk == other.walk or other.walk is None:
        return SpatialDim(bounds, first.walk, first.jump)
    return SpatialDim(bounds, other.walk if first.walk is None else None, other.jump)


def compress(bounds: Tensor) -> Tensor:
    """Reduce every dimension except the first along which nothing changes to length 1."""
    for dim in range(1, bounds.dim()):
        if bounds.shape[dim] > 1:
            head = bounds.narrow(dim, 0, 1)
            if bool((bounds == head).all()):
                bounds = head
    return bounds


def _floor(steps: Tensor, jump: Fraction) -> Tensor:
    return torch.div(steps * jump.numerator, jump.denominator, rounding_mode="floor")


@dataclass(frozen=True)
class Call:
    """An operation ``name`` with its arguments by name, its tensor ``outputs``, and the module that contains it.

    ``field`` returns the field of a tensor, None if it does not depend on the image. ``run`` runs the
    operation again with some arguments replaced. ``image`` is the image's height and width.
    """

    name: str
    values: dict[str, Any]
    outputs: tuple[Tensor, ...]
    where: str
    image: tuple[int, int]
    field: Callable[[Any], Field | None]
    run: Callable[[dict[str, Any]], Any]

    @property
    def main(self) -> Tensor:
        """The first argument."""
        tensor: Tensor = next(iter(self.values.values()))
        return tensor


Rule = Callable[[Call], Field | tuple[Field | None, ...] | None]
"""Returns one field for all outputs, or one for each; NotImplementedError means that the call is not supported."""
