"""The corruption ``motion_blur``."""

from __future__ import annotations

import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, eight_bits, uniform
from probe.data.corruptions._blurs import streaked

Motion = tuple[float, float]


@CORRUPTIONS.register("motion_blur", order=6)
class MotionBlur(Corruption[Motion]):
    """A blur along a line at an angle between −45° and 45°, heavier at one end, as ImageMagick makes it.

    Parameters: the radius, of which the line is twice as long, and σ, in pixels.
    """

    title = "motion blur"
    family = "blur"
    large = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    small = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
    alexnet = 0.786

    def _corrupt(self, pixels: Array, parameters: Motion, scale: float, generator: torch.Generator) -> Array:
        """Blur along a drawn angle, rounded to 8 bits as ImageMagick's files are."""
        radius, sigma = parameters
        angle = float(uniform(-45, 45, (), generator))
        return eight_bits(streaked(pixels, radius * scale, sigma * scale, angle))
