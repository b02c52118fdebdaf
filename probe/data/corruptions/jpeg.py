"""The corruption ``jpeg``."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.core.pixels import to_uint8
from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Amounts, begin

AMOUNTS: Amounts = (25, 18, 15, 10, 7)
"""JPEG quality, from 1 (worst) to 95."""


@CORRUPTIONS.register("jpeg", order=3)
@dataclass(frozen=True)
class JpegCompression:
    """JPEG compression with half the colour resolution; its blocks are 8 × 8 pixels for any image size."""

    name: str = "JPEG"
    unit: str = "quality"
    amounts: Amounts = AMOUNTS

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Encode and decode every image through 8-bit pixels; see ``Corruption.apply``."""
        pixels, quality = begin(self, images, severity)
        stored = torch.empty_like(pixels)
        for index, image in enumerate(pixels.cpu()):
            buffer = io.BytesIO()
            Image.fromarray(to_uint8(image)).save(buffer, "JPEG", quality=int(quality))
            array = np.array(Image.open(buffer))
            decoded = torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)
            stored[index] = decoded.to(pixels) / 255
        return stored
