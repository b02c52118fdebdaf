"""Convolution, cross-correlation and its three gradients as explicit float64 sums over one, two or more axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sizes = tuple[int, ...]


def tensor_product(f: Array, g: Array) -> Array:
    """Return the table f⊗g of all products: f(x) g(y) at place (x, y), shape ``f.shape + g.shape``."""
    table = np.empty(f.shape + g.shape)
    for x in np.ndindex(*f.shape):
        for y in np.ndindex(*g.shape):
            table[x + y] = f[x] * g[y]
    return table


def sum_antidiagonals(table: Array) -> Array:
    """Fold a table over (x, y) along x + y = n; in two dimensions x, y and n are pairs.

    The first half of the table's axes belongs to x, the second half to y.
    """
    dims = table.ndim // 2
    over_x, over_y = table.shape[:dims], table.shape[dims:]
    folded = np.zeros([a + b - 1 for a, b in zip(over_x, over_y, strict=True)])
    for x in np.ndindex(*over_x):
        for y in np.ndindex(*over_y):
            n = tuple(a + b for a, b in zip(x, y, strict=True))
            folded[n] += table[x + y]
    return folded


def convolve(f: Array, g: Array) -> Array:
    """Convolve two arrays in full: (f∗g)(n) = Σ f(x) g(y) over x + y = n, sizes a + b − 1."""
    return sum_antidiagonals(tensor_product(f, g))


@dataclass(frozen=True)
class Geometry:
    """Where a convolution layer looks: one number an axis, and into how many groups its channels fall."""

    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int = 1

    @classmethod
    def plain(cls, dims: int) -> Geometry:
        """Return stride 1, dilation 1, no padding, one group."""
        return cls((1,) * dims, (0,) * dims, (1,) * dims)

    def reach(self, kernel: Sizes) -> Sizes:
        """Return how many places a dilated kernel spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True))

    def output(self, size: Sizes, kernel: Sizes) -> Sizes:
        """Return how many times the kernel fits along each axis of an input of ``size``."""
        spans = zip(size, self.padding, self.reach(kernel), self.stride, strict=True)
        return tuple((n + 2 * p - reach) // s + 1 for n, p, reach, s in spans)


def pad(x: Array, padding: Sizes) -> Array:
    """Surround the spatial axes of (N, C, …) with zeros."""
    return np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])


def correlate(x: Array, kernel: Array, bias: Array | None, geometry: Geometry) -> Array:
    """Apply a convolution layer, which is a cross-correlation: y(p) = Σ w(k) x(stride·p + dilation·k) + b.

    ``x`` is (N, C, …), ``kernel`` (O, C / groups, …), ``bias`` (O,); the answer (N, O, …).
    """
    outputs, per_group = kernel.shape[:2]
    y = np.empty((len(x), outputs, *geometry.output(x.shape[2:], kernel.shape[2:])))
    x = pad(x, geometry.padding)
    for n, o, *place in np.ndindex(*y.shape):
        first = o // (outputs // geometry.groups) * per_group
        starts = [p * s for p, s in zip(place, geometry.stride, strict=True)]
        ends = [start + reach for start, reach in zip(starts, geometry.reach(kernel.shape[2:]), strict=True)]
        seen = [slice(*axis) for axis in zip(starts, ends, geometry.dilation, strict=True)]
        y[n, o, *place] = (kernel[o] * x[n, first : first + per_group, *seen]).sum()
        if bias is not None:
            y[n, o, *place] += bias[o]
    return y


def bias_gradient(error: Array) -> Array:
    """Sum the error (N, O, …) over images and places: the bias is added everywhere."""
    return error.sum(axis=(0, *range(2, error.ndim)))


def kernel_gradient(x: Array, error: Array, kernel: Sizes, geometry: Geometry) -> Array:
    """Correlate the input with the error: ∂L/∂w(k) = Σ error(p) x(stride·p + dilation·k).

    The error is the kernel now, so that stride and dilation exchange roles, and the sum runs over images
    where it ran over channels. ``kernel`` is the size of the kernel, without channels. What the error
    could reach beyond it (input that the stride never gets to) is cut off.
    """
    exchanged = Geometry(geometry.dilation, geometry.padding, geometry.stride)
    parts = []
    for inputs, errors in zip(_groups(x, geometry), _groups(error, geometry), strict=True):
        correlated = correlate(inputs.swapaxes(0, 1), errors.swapaxes(0, 1), None, exchanged)
        parts.append(correlated[:, :, *map(slice, kernel)].swapaxes(0, 1))
    return np.concatenate(parts)


def _groups(x: Array, geometry: Geometry) -> list[Array]:
    """Split (N, C, …) into its groups of channels."""
    return np.split(x, geometry.groups, axis=1)


def spread(x: Array, stride: Sizes) -> Array:
    """Put stride − 1 zeros between neighbours along each spatial axis of (N, C, …)."""
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    wide = np.zeros((*x.shape[:2], *sizes))
    wide[:, :, *(slice(None, None, s) for s in stride)] = x
    return wide


def rotate(kernel: Array) -> Array:
    """Turn the spatial axes of a kernel by 180°: w(k) becomes w(−k)."""
    return np.flip(kernel, axis=tuple(range(2, kernel.ndim)))


def input_gradient(error: Array, kernel: Array, size: Sizes, geometry: Geometry) -> Array:
    """Convolve the error in full with the kernel: ∂L/∂x(i) = Σ error(p) w(k) over stride·p + dilation·k = i.

    Full convolution is correlation, over the error spread by the stride and padded by reach − 1, with the
    kernel rotated by 180° and its input and output channels exchanged. ``size`` is that of the input's spatial
    axes; rows that the stride never reaches get zero, and what fell on the padding is cut off.
    """
    padded_size = [n + 2 * p for n, p in zip(size, geometry.padding, strict=True)]
    border = tuple(reach - 1 for reach in geometry.reach(kernel.shape[2:]))
    full = Geometry((1,) * len(size), border, geometry.dilation)
    parts = []
    for errors, kernels in zip(_groups(error, geometry), np.split(kernel, geometry.groups), strict=True):
        reached = correlate(spread(errors, geometry.stride), rotate(kernels).swapaxes(0, 1), None, full)
        padded = np.zeros((*reached.shape[:2], *padded_size))
        padded[:, :, *map(slice, reached.shape[2:])] = reached
        parts.append(padded[:, :, *(slice(p, p + n) for p, n in zip(geometry.padding, size, strict=True))])
    return np.concatenate(parts, axis=1)
