"""The corruption ``gaussian_blur``."""

from __future__ import annotations

import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption
from probe.data.corruptions._blurs import blurred


@CORRUPTIONS.register("gaussian_blur", order=17)
class GaussianBlur(Corruption[float]):
    """A Gaussian blur with repeated edges, truncated at 4 σ; parameters: σ in pixels."""

    title = "Gaussian blur"
    large = (1, 2, 3, 4, 6)
    small = (0.4, 0.6, 0.7, 0.8, 1)

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Blur."""
        return blurred(pixels, parameters * scale)
