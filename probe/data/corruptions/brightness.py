"""The corruption ``brightness``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption


@CORRUPTIONS.register("brightness", order=11)
class Brightness(Corruption[float]):
    """Increased brightness: the value in HSV is raised and clipped at 1; parameters: by how much."""

    title = "brightness"
    family = "weather"
    large = (0.1, 0.2, 0.3, 0.4, 0.5)
    small = (0.05, 0.1, 0.15, 0.2, 0.3)
    alexnet = 0.565

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Raise each pixel's largest channel and scale the others with it; black becomes grey."""
        value = pixels.max(2, keepdims=True)
        ratio = np.divide(pixels, value, out=np.ones_like(pixels), where=value > 0)
        found: Array = ratio * (value + parameters).clip(0, 1)
        return found
