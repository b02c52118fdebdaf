"""The corruption ``contrast``."""

from __future__ import annotations

import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption


@CORRUPTIONS.register("contrast", order=12)
class Contrast(Corruption[float]):
    """Reduced contrast; parameters: the factor on each value's distance from the mean of its channel."""

    title = "contrast"
    family = "digital"
    large = (0.4, 0.3, 0.2, 0.1, 0.05)
    small = (0.75, 0.5, 0.4, 0.3, 0.15)
    alexnet = 0.853

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Move every value towards the mean of its channel."""
        mean = pixels.mean((0, 1), keepdims=True)
        found: Array = (pixels - mean) * parameters + mean
        return found
