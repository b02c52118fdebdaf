"""The corruption ``snow``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, eight_bits, grey, normal, uniform
from probe.data.corruptions._blurs import enlarged, streaked

Flakes = tuple[float, float, float, float, float, float, float]


@CORRUPTIONS.register("snow", order=8)
class Snow(Corruption[Flakes]):
    """Falling snow before a whitened image.

    Parameters: mean and standard deviation of the noise that becomes flakes, their size in pixels, the threshold below which
    there is none, radius and σ of their motion blur in pixels, and the share of the image that is not whitened.
    """

    title = "snow"
    family = "weather"
    large = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )
    small = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )
    alexnet = 0.867

    def _corrupt(self, pixels: Array, parameters: Flakes, scale: float, generator: torch.Generator) -> Array:
        """Whiten the image, and add a layer of flakes and the same turned by 180°."""
        mean, spread, size, threshold, radius, sigma, kept = parameters
        noise = normal(mean, spread, (*pixels.shape[:2], 1), generator)
        flakes = enlarged(noise, max(1.0, size * scale))
        flakes = np.floor(np.where(flakes < threshold, 0, flakes).clip(0, 1) * 255) / 255
        angle = float(uniform(-135, -45, (), generator))
        layer = eight_bits(streaked(flakes, radius * scale, sigma * scale, angle))
        white = kept * pixels + (1 - kept) * np.maximum(pixels, grey(pixels) * 1.5 + 0.5)
        return white + layer + layer[::-1, ::-1]
