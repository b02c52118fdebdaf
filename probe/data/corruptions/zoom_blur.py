"""The corruption ``zoom_blur``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption
from probe.data.corruptions._blurs import enlarged

Zoom = tuple[float, float]


@CORRUPTIONS.register("zoom_blur", order=7)
class ZoomBlur(Corruption[Zoom]):
    """The mean of an image and of enlargements of it; parameters: where their factors, from 1 on, end, and their step."""

    title = "zoom blur"
    family = "blur"
    large = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
    small = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
    alexnet = 0.798

    def _corrupt(self, pixels: Array, parameters: Zoom, scale: float, generator: torch.Generator) -> Array:
        """Average the enlargements about the centre."""
        factors = np.arange(1, *parameters)
        mean = pixels.copy()
        for factor in factors:
            mean += enlarged(pixels, float(factor))
        return mean / (len(factors) + 1)
