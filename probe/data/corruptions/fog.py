"""The corruption ``fog``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, uniform

Plasma = tuple[float, float]


@CORRUPTIONS.register("fog", order=10)
class Fog(Corruption[Plasma]):
    """Fog with the clouds of a plasma fractal; parameters: its amount, and by what its detail decays at each halving."""

    title = "fog"
    family = "weather"
    large = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))
    small = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
    alexnet = 0.819

    def _corrupt(self, pixels: Array, parameters: Plasma, scale: float, generator: torch.Generator) -> Array:
        """Add a fractal, and scale back to the image's range."""
        amount, decay = parameters
        height, width, _ = pixels.shape
        cloud = plasma(1 << (max(height, width) - 1).bit_length(), decay, generator)[:height, :width, None]
        white = pixels.max()
        found: Array = (pixels + amount * cloud) * white / (white + amount)
        return found


def plasma(side: int, decay: float, generator: torch.Generator) -> Array:
    """Return a plasma fractal (side, side) from 0 to 1 by the diamond-square method on a torus (Fournier et al. 1982).

    ``side`` is a power of two. The random part of a level is uniform within ± the square of an amplitude that is divided by
    ``decay`` from level to level.
    """
    heights = np.zeros((side, side))
    step, amplitude = side, 100.0

    def shaken(sums: Array) -> Array:
        found: Array = sums / 4 + uniform(-(amplitude**2), amplitude**2, sums.shape, generator)
        return found

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step].copy()
        pairs = corners + np.roll(corners, -1, 0)
        centres = shaken(pairs + np.roll(pairs, -1, 1))
        heights[half::step, half::step] = centres
        beside, above = corners + np.roll(corners, -1, 1), centres + np.roll(centres, 1, 0)
        heights[::step, half::step] = shaken(beside + above)
        heights[half::step, ::step] = shaken(pairs + centres + np.roll(centres, 1, 1))
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    found: Array = heights / (heights.max() or 1.0)
    return found
