"""The corruption ``shot_noise``."""

from __future__ import annotations

import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption


@CORRUPTIONS.register("shot_noise", order=2)
class ShotNoise(Corruption[float]):
    """Poisson noise, as of few photons; parameters: photons of a white pixel."""

    title = "shot noise"
    family = "noise"
    large = (60, 25, 12, 5, 3)
    small = (500, 250, 100, 75, 50)
    alexnet = 0.894

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Draw the photons of every pixel and channel."""
        photons = torch.poisson(torch.from_numpy(pixels * parameters), generator=generator)
        return photons.numpy() / parameters
