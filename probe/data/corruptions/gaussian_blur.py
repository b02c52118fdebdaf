"""The corruption ``gaussian-blur``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Amounts, begin

AMOUNTS: Amounts = (1 / 224, 2 / 224, 3 / 224, 4 / 224, 6 / 224)
"""Standard deviation σ of the blur as a fraction of the shorter side: 1, 2, 3, 4, 6 pixels of 224."""

_TRUNCATE = 4.0


@CORRUPTIONS.register("gaussian-blur", order=2)
@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian blur, like a lens out of focus; the image is padded with its edge pixels.

    σ is a fraction of the shorter side: 224 pixels are blurred by 1 to 6 pixels, 8 × 8 pixels hardly at all.
    """

    name: str = "Gaussian blur"
    unit: str = "σ, fraction of the shorter side"
    amounts: Amounts = AMOUNTS

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Blur with a separable Gaussian, truncated at 4 σ; see ``Corruption.apply``."""
        pixels, part = begin(self, images, severity)
        sigma = part * min(pixels.shape[2:])
        radius = int(_TRUNCATE * sigma + 0.5)
        distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weights = torch.softmax(-(distance**2) / (2 * sigma**2), 0).to(pixels)
        channels = pixels.shape[1]
        for shape, pad in (((1, 1, -1, 1), (0, 0, radius, radius)), ((1, 1, 1, -1), (radius, radius, 0, 0))):
            kernel = weights.view(shape).repeat(channels, 1, 1, 1)
            pixels = F.conv2d(F.pad(pixels, pad, mode="replicate"), kernel, groups=channels)
        return pixels.clamp(0, 1)
