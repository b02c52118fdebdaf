"""The corruption ``gaussian_noise``."""

from __future__ import annotations

import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, normal


@CORRUPTIONS.register("gaussian_noise", order=1)
class GaussianNoise(Corruption[float]):
    """Independent normal noise on every pixel and channel; parameters: standard deviation in pixel units."""

    title = "Gaussian noise"
    family = "noise"
    large = (0.08, 0.12, 0.18, 0.26, 0.38)
    small = (0.04, 0.06, 0.08, 0.09, 0.10)
    alexnet = 0.886

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Add the noise."""
        return pixels + normal(0.0, parameters, pixels.shape, generator)
