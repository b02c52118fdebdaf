"""Blurs, streaks and enlargements that several corruptions share, of one image (H, W, C) in float64."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.signal import fftconvolve

from probe.data.corruptions._base import Array


def blurred(pixels: Array, sigma: float) -> Array:
    """Return a Gaussian blur with repeated edges, truncated at 4 σ (in pixels)."""
    found: Array = gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest", truncate=4.0)
    return found


def disk(radius: float, smooth: float) -> Array:
    """Return a disk with sum 1 as a square kernel; its edge is smoothed by a Gaussian of σ ``smooth`` over 3 or 5 pixels.

    Radii up to 8 lie in 17 × 17 pixels. Disks that fill their window, of radius 8 and 10, have a sum that is not quite 1,
    as published.
    """
    half = 8 if radius <= 8 else math.ceil(radius)
    place = np.arange(-half, half + 1)
    inside = (place[:, None] ** 2 + place**2 <= radius**2).astype(np.float64)
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    weights = np.exp(-(taps**2) / (2 * smooth**2))
    kernel = inside / inside.sum()
    for axis in (0, 1):
        kernel = correlate1d(kernel, weights / weights.sum(), axis, mode="mirror")
    found: Array = kernel
    return found


def correlated(pixels: Array, kernel: Array) -> Array:
    """Return the correlation with a square kernel; edges are mirrored without the edge pixel."""
    half = len(kernel) // 2
    padded = np.pad(pixels, ((half, half), (half, half), (0, 0)), mode="reflect")
    found: Array = fftconvolve(padded, kernel[::-1, ::-1, None], mode="valid", axes=(0, 1))
    return found


def streaked(pixels: Array, radius: float, sigma: float, angle: float) -> Array:
    """Return a blur along a line, like ImageMagick's motion blur; edges are repeated.

    From each pixel on, 2 ⌈radius⌉ + 1 pixels along ``angle`` (degrees, from the right downwards) are averaged with the
    weights of one half of a Gaussian of σ ``sigma``.
    """
    width = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    right, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rows, columns = (np.arange(side) for side in pixels.shape[:2])
    found = np.zeros_like(pixels)
    for step, weight in enumerate(weights):
        # Half pixels are rounded down.
        row = (rows + math.ceil(step * down - 0.5)).clip(0, len(rows) - 1)
        column = (columns + math.ceil(step * right - 0.5)).clip(0, len(columns) - 1)
        found += weight * pixels[row[:, None], column]
    return found


def enlarged(pixels: Array, factor: float) -> Array:
    """Return the centre, enlarged by a factor of at least 1 with linear interpolation, at the old size."""
    height, width, _ = pixels.shape
    across = np.tensordot(pixels, _enlarging(width, factor), (1, 1))
    return np.moveaxis(np.tensordot(_enlarging(height, factor), across, (1, 0)), 2, 1)


@lru_cache(maxsize=128)
def _enlarging(side: int, factor: float) -> Array:
    """Return the matrix (side, side) that enlarges the centre of a line of pixels; the ends of the crop stay its ends."""
    kept = math.ceil(side / factor)
    size = round(kept * factor)
    start, trimmed = (side - kept) // 2, (size - side) // 2
    place = (np.arange(side) + trimmed) * ((kept - 1) / max(1, size - 1))
    before = np.minimum(place.astype(int), kept - 1)
    part = place - before
    matrix = np.zeros((side, side))
    rows = np.arange(side)
    matrix[rows, start + before] += 1 - part
    matrix[rows, start + np.minimum(before + 1, kept - 1)] += part
    return matrix
