"""Average and max pooling and the way their errors go back, as explicit float64 sums over windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Pooling:
    """The windows of a pooling layer: one number an axis; padding is at most half of the kernel."""

    kernel: Sizes
    stride: Sizes
    padding: Sizes

    def output(self, size: Sizes) -> Sizes:
        """Return how many windows fit along each axis of an input of ``size``."""
        spans = zip(size, self.padding, self.kernel, self.stride, strict=True)
        return tuple((n + 2 * p - k) // s + 1 for n, p, k, s in spans)

    def windows(self, size: Sizes) -> Iterator[tuple[Sizes, tuple[slice, ...]]]:
        """Yield each output's place and the part of its window that lies on the input."""
        for place in np.ndindex(*self.output(size)):
            starts = [p * s - q for p, s, q in zip(place, self.stride, self.padding, strict=True)]
            ends = [start + k for start, k in zip(starts, self.kernel, strict=True)]
            spans = zip(starts, ends, size, strict=True)
            yield place, tuple(slice(max(start, 0), min(end, n)) for start, end, n in spans)


def average_pool(x: Array, pooling: Pooling, count_padding: bool = True) -> Array:
    """Take the mean of each window of (N, C, …); padding counts as zeros, or not at all."""
    y = np.empty((*x.shape[:2], *pooling.output(x.shape[2:])))
    for place, window in pooling.windows(x.shape[2:]):
        seen = x[:, :, *window].reshape(*x.shape[:2], -1)
        count = np.prod(pooling.kernel) if count_padding else seen.shape[-1]
        y[:, :, *place] = seen.sum(axis=-1) / count
    return y


def average_pool_gradient(error: Array, size: Sizes, pooling: Pooling, count_padding: bool = True) -> Array:
    """Spread each error evenly over its window; overlapping windows add up.

    The sum of the error is unchanged without padding, and with padding that is not counted. Counted padding
    takes its share: a window with m of its K places on the input passes m / K of its error on.
    """
    gradient = np.zeros((*error.shape[:2], *size))
    for place, window in pooling.windows(size):
        inside = gradient[:, :, *window]  # a view: adding to it adds to the gradient
        count = np.prod(pooling.kernel) if count_padding else np.prod(inside.shape[2:])
        inside += np.expand_dims(error[:, :, *place] / count, tuple(range(2, error.ndim)))
    return gradient


def max_pool(x: Array, pooling: Pooling) -> tuple[Array, Places]:
    """Return the largest value of each window of (N, C, …) and its place; padding is never the largest.

    A place is counted in row-major order within a channel's map. Of equal values the first in that order is taken.
    """
    size = x.shape[2:]
    y = np.empty((*x.shape[:2], *pooling.output(size)))
    places = np.empty(y.shape, dtype=np.int64)
    numbers = np.arange(np.prod(size)).reshape(size)
    for place, window in pooling.windows(size):
        own = numbers[window].ravel()
        for image, channel in np.ndindex(*x.shape[:2]):
            seen = x[image, channel, *window].ravel()
            winner = seen.argmax()
            y[image, channel, *place] = seen[winner]
            places[image, channel, *place] = own[winner]
    return y, places


def max_pool_gradient(error: Array, places: Places, size: Sizes) -> Array:
    """Send each error to the recorded place; several to one place add up, and the sum is always unchanged."""
    gradient = np.zeros((*error.shape[:2], int(np.prod(size))))
    for image, channel, *place in np.ndindex(*error.shape):
        gradient[image, channel, places[image, channel, *place]] += error[image, channel, *place]
    return gradient.reshape(*error.shape[:2], *size)
