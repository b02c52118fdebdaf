"""The corruption ``elastic_transform``."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, map_coordinates

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, uniform

Elastic = tuple[float, float, float]


@CORRUPTIONS.register("elastic_transform", order=13)
class ElasticTransform(Corruption[Elastic]):
    """An affine distortion, and then a smooth displacement of every pixel.

    Parameters, in pixels: the factor on the displacement, the σ that smooths it, and how far three points about the centre are
    moved by the affine map, at most. Severities differ in kind here: the first two bend the whole image, the others its detail.
    """

    title = "elastic transform"
    family = "digital"
    large = (
        (488, 170.8, 24.4),
        (488, 19.52, 48.8),
        (12.2, 2.44, 4.88),
        (17.08, 2.44, 4.88),
        (29.28, 2.44, 4.88),
    )
    small = ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96))
    alexnet = 0.646

    def _corrupt(self, pixels: Array, parameters: Elastic, scale: float, generator: torch.Generator) -> Array:
        """Interpolate linearly at displaced places, twice, as published."""
        amount, sigma, jitter = (scale * parameter for parameter in parameters)
        height, width, _ = pixels.shape
        # Rows are (column, row): three corners of a square about the centre, and where they go.
        centre, reach = np.array([width // 2, height // 2]), min(height, width) // 3
        corners = centre + max(1, reach) * np.array([[1, 1], [1, -1], [-1, -1]])
        moved = corners + uniform(-jitter, jitter, (3, 2), generator)
        back = np.linalg.lstsq(np.c_[moved, np.ones(3)], corners, rcond=None)[0]
        y, x = np.mgrid[:height, :width].astype(np.float64)
        column, row = np.moveaxis(np.stack([x, y, np.ones_like(x)], 2) @ back, 2, 0)
        bent = _sampled(pixels, row, column, "mirror")
        shift = [_smooth(uniform(-1, 1, (height, width), generator), sigma) * amount for _ in range(2)]
        return _sampled(bent, y + shift[1], x + shift[0], "reflect")


def _sampled(pixels: Array, rows: Array, columns: Array, edges: Literal["mirror", "reflect"]) -> Array:
    """Return the pixels at fractional places, linearly interpolated."""
    channels = (
        map_coordinates(plane, [rows, columns], order=1, mode=edges) for plane in np.moveaxis(pixels, 2, 0)
    )
    return np.stack(list(channels), 2)


def _smooth(values: Array, sigma: float) -> Array:
    """Return a Gaussian blur of a plane (H, W) with mirrored edges, truncated at 3 σ."""
    height, width = values.shape
    return _smoothing(height, sigma) @ values @ _smoothing(width, sigma).T


@lru_cache(maxsize=16)
def _smoothing(side: int, sigma: float) -> Array:
    """Return the blur of a line of pixels as a matrix: σ is nearly the side for some severities, and kept."""
    if sigma == 0:
        return np.eye(side)
    found: Array = gaussian_filter1d(np.eye(side), sigma, axis=0, mode="reflect", truncate=3.0)
    return found
