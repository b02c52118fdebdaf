"""The corruption ``pixelate``."""

from __future__ import annotations

import torch
from PIL import Image

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, from_picture, to_picture


@CORRUPTIONS.register("pixelate", order=14)
class Pixelate(Corruption[float]):
    """Fewer pixels, shown at the old size; parameters: the side as a share of the old one."""

    title = "pixelate"
    family = "digital"
    large = (0.6, 0.5, 0.4, 0.3, 0.25)
    small = (0.95, 0.9, 0.85, 0.75, 0.65)
    alexnet = 0.718

    def _corrupt(self, pixels: Array, parameters: float, scale: float, generator: torch.Generator) -> Array:
        """Resize down and up with Pillow's box filter."""
        height, width, _ = pixels.shape
        small = max(1, int(width * parameters)), max(1, int(height * parameters))
        box = Image.Resampling.BOX
        return from_picture(to_picture(pixels).resize(small, box).resize((width, height), box))
