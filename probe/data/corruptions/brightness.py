"""The corruption ``brightness``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Amounts, begin

AMOUNTS: Amounts = (0.1, 0.2, 0.3, 0.4, 0.5)
"""The amount added to the largest colour channel (the value in HSV), in pixel units."""


@CORRUPTIONS.register("brightness", order=4)
@dataclass(frozen=True)
class Brightness:
    """Increased brightness: the value in HSV is raised and clipped at 1; hue and saturation stay the same."""

    name: str = "brightness"
    unit: str = "added value in pixel units"
    amounts: Amounts = AMOUNTS

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Raise each pixel's largest channel and scale the others with it; see ``Corruption.apply``."""
        pixels, added = begin(self, images, severity)
        value = pixels.amax(1, keepdim=True)
        ratio = torch.where(value > 0, pixels / value, 1.0)  # black has no hue and becomes grey
        return (ratio * (value + added).clamp(0, 1)).clamp(0, 1)
