"""The relief of drops of water: what OpenCV's functions give for it, from their definitions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    correlate,
    correlate1d,
    distance_transform_edt,
    label,
    uniform_filter,
)

from probe.data.corruptions._base import Array

_WEAK, _STRONG = 50, 150
_FAR = 20.0
_EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
_EIGHT = np.ones((3, 3), int)


def drop_relief(drops: NDArray[np.uint8]) -> Array:
    """Return how light drops (H, W) are at each place, 0 to 1: an embossed map of the distance from their edges.

    All 0 where there are no drops.
    """
    far = np.full(drops.shape, _FAR)
    found = edges(drops)
    if found.any():
        far = np.minimum(distance_transform_edt(~found), _FAR)
    depth = equalised(np.floor(_boxed(far)).astype(np.uint8)).astype(np.int64)
    raised = correlate(depth, _EMBOSS, mode="mirror").clip(0, 255)
    light: Array = drops.astype(np.float64) * np.rint(_boxed(raised.astype(np.float64)))
    most = light.max()
    return light / (most or 1.0)


def _boxed(values: Array) -> Array:
    boxed: Array = uniform_filter(values, 3, mode="mirror")
    return boxed


def edges(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return Canny's edges of 8-bit pixels (H, W): Sobel, L1 magnitude, thresholds 50 and 150 (Canny 1986)."""
    values = grey.astype(np.int64)
    across, down = (
        correlate1d(
            correlate1d(values, [-1, 0, 1], axis, mode="nearest"), [1, 2, 1], 1 - axis, mode="nearest"
        )
        for axis in (1, 0)
    )
    size = np.abs(across) + np.abs(down)
    thin = (size > _WEAK) & _ridge(size, across, down)
    parts, count = label(thin, _EIGHT)
    strong = np.zeros(count + 1, bool)
    strong[parts[thin & (size > _STRONG)]] = True
    kept: NDArray[np.bool_] = strong[parts]
    return kept


def _ridge(size: NDArray[np.int64], across: NDArray[np.int64], down: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where the gradient is largest along its own direction: horizontal, vertical, or one of two diagonals."""
    padded = np.pad(size, 1)
    height, width = size.shape

    def near(row: int, column: int) -> NDArray[np.int64]:
        return padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    x, y = np.abs(across), np.abs(down)
    tangent = np.tan(np.pi / 8)
    flat, steep = y < tangent * x, y > x / tangent
    falling = across * down >= 0  # the gradient points down to the right, or up to the left
    along = size > near(0, -1), size >= near(0, 1)
    upright = size > near(-1, 0), size >= near(1, 0)
    one = size > near(-1, -1), size > near(1, 1)
    other = size > near(-1, 1), size > near(1, -1)
    slanted = np.where(falling, one[0] & one[1], other[0] & other[1])
    found: NDArray[np.bool_] = np.where(
        flat, along[0] & along[1], np.where(steep, upright[0] & upright[1], slanted)
    )
    return found


def equalised(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 8-bit pixels with an equalised histogram; pixels of one value stay as they are."""
    counts = np.bincount(grey.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    rest = grey.size - counts[first]
    if rest == 0:
        return grey
    above = np.cumsum(np.where(np.arange(256) > first, counts, 0))
    found: NDArray[np.uint8] = np.rint(above * (255 / rest)).astype(np.uint8)[grey]
    return found
