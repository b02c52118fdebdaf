"""The corruption ``glass_blur``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption
from probe.data.corruptions._blurs import blurred

Glass = tuple[float, int, int]


@CORRUPTIONS.register("glass_blur", order=5)
class GlassBlur(Corruption[Glass]):
    """A view through frosted glass: pixels take the place of near ones between two Gaussian blurs.

    Parameters: σ, the largest distance in pixels, and how often. The published programme was meant to swap pixels, but of colour
    images it copies the near one; the data are made so, and so is this.
    """

    title = "glass blur"
    family = "blur"
    large = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    small = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    alexnet = 0.826

    def _corrupt(self, pixels: Array, parameters: Glass, scale: float, generator: torch.Generator) -> Array:
        """Blur, copy near pixels over each from the last to the first, and blur again."""
        sigma, most, times = parameters
        reach = max(1, round(most * scale))
        height, width, channels = pixels.shape
        soft = np.floor(blurred(pixels, sigma * scale) * 255) / 255
        source = list(range(height * width))
        rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
        for _ in range(times):
            drawn = torch.randint(-reach, reach, (2, len(rows), len(columns)), generator=generator)
            here = torch.tensor(rows)[:, None] * width + torch.tensor(columns)
            there = here + drawn[0] * width + drawn[1]
            for place, near in zip(here.flatten().tolist(), there.flatten().tolist(), strict=True):
                source[place] = source[near]
        return blurred(soft.reshape(-1, channels)[source].reshape(pixels.shape), sigma * scale)
