"""The corruption ``speckle_noise``."""

from __future__ import annotations

import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, normal


@CORRUPTIONS.register("speckle_noise", order=16)
class SpeckleNoise(Corruption[float]):
    """Normal noise in proportion to the pixel; parameters: its standard deviation on a white pixel."""

    title = "speckle noise"
    large = (0.15, 0.2, 0.35, 0.45, 0.6)
    small = (0.06, 0.1, 0.12, 0.16, 0.2)

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Add the noise."""
        return pixels + pixels * normal(0.0, parameters, pixels.shape, generator)
