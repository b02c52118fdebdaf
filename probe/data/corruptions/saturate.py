"""The corruption ``saturate``."""

from __future__ import annotations

import numpy as np
import torch

from probe.core.errors import NotApplicableError
from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption

Saturation = tuple[float, float]


@CORRUPTIONS.register("saturate", order=19)
class Saturate(Corruption[Saturation]):
    """Less saturated colours at severities 1 and 2, more saturated ones from 3 on; parameters: factor and addend on HSV's saturation.

    What is added makes grey red, whose hue is 0, as in the published data. Images of one channel have no saturation.
    """

    title = "saturate"
    large = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))
    small = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))

    def _corrupt(
        self, pixels: Array, parameters: Saturation, scale: float, generator: torch.Generator
    ) -> Array:
        """Change the saturation at the same hue and value; raises NotApplicableError for grey images."""
        if pixels.shape[2] != 3:
            raise NotApplicableError("Images of one channel have no saturation.")
        factor, addend = parameters
        value = pixels.max(2, keepdims=True)
        chroma = value - pixels.min(2, keepdims=True)
        saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
        red = np.broadcast_to([0.0, 1.0, 1.0], pixels.shape).copy()
        below = np.divide(value - pixels, chroma, out=red, where=chroma > 0)
        found: Array = value * (1 - (saturation * factor + addend).clip(0, 1) * below)
        return found
