"""The corruption ``contrast``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Amounts, begin

AMOUNTS: Amounts = (0.4, 0.3, 0.2, 0.1, 0.05)
"""Factor on each pixel's distance from its channel's mean; 1 would not change the image."""


@CORRUPTIONS.register("contrast", order=5)
@dataclass(frozen=True)
class Contrast:
    """Reduced contrast: every pixel moves towards the mean of its channel in the image."""

    name: str = "contrast"
    unit: str = "factor on the distance from the mean"
    amounts: Amounts = AMOUNTS

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Scale the distance from the channel's mean; see ``Corruption.apply``."""
        pixels, factor = begin(self, images, severity)
        mean = pixels.mean(dim=(2, 3), keepdim=True)
        return (mean + factor * (pixels - mean)).clamp(0, 1)
