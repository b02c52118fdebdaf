"""The corruption ``impulse_noise``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, uniform


@CORRUPTIONS.register("impulse_noise", order=3)
class ImpulseNoise(Corruption[float]):
    """Salt and pepper; parameters: the share of values, channel by channel, that become 0 or 1 with equal chance."""

    title = "impulse noise"
    family = "noise"
    large = (0.03, 0.06, 0.09, 0.17, 0.27)
    small = (0.01, 0.02, 0.03, 0.05, 0.07)
    alexnet = 0.923

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Replace values."""
        replaced = uniform(0, 1, pixels.shape, generator) < parameters
        salt = uniform(0, 1, pixels.shape, generator) < 0.5
        return np.where(replaced, salt, pixels)
