"""The corruption ``gaussian-noise``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Amounts, begin

AMOUNTS: Amounts = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation of the noise in pixel units, where black is 0 and white is 1."""


@CORRUPTIONS.register("gaussian-noise", order=1)
@dataclass(frozen=True)
class GaussianNoise:
    """Independent normal noise on every pixel and channel, clipped to [0, 1]."""

    name: str = "Gaussian noise"
    unit: str = "standard deviation in pixel units"
    amounts: Amounts = AMOUNTS

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Add noise drawn from ``generator``; see ``Corruption.apply``."""
        pixels, sigma = begin(self, images, severity)
        noise = torch.randn(pixels.shape, generator=generator, device=generator.device)
        return (pixels + sigma * noise.to(pixels.device)).clamp(0, 1)
