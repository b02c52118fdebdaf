"""The corruption ``jpeg_compression``."""

from __future__ import annotations

import io

import torch
from PIL import Image

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, from_picture, to_picture


@CORRUPTIONS.register("jpeg_compression", order=15)
class JpegCompression(Corruption[int]):
    """JPEG compression with half the colour resolution, in blocks of 8 × 8 pixels for any size; parameters: Pillow's quality."""

    title = "JPEG compression"
    family = "digital"
    large = (25, 18, 15, 10, 7)
    small = (80, 65, 58, 50, 40)
    alexnet = 0.607

    def _corrupt(self, pixels: Array, parameters: int, scale: float, generator: torch.Generator) -> Array:
        """Encode and decode."""
        buffer = io.BytesIO()
        to_picture(pixels).save(buffer, "JPEG", quality=parameters)
        return from_picture(Image.open(buffer))
