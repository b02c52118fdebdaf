"""The corruption ``spatter``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, grey, normal
from probe.data.corruptions._blurs import blurred
from probe.data.corruptions._drops import drop_relief

Drops = tuple[float, float, float, float, float, int]

_WATER = np.array([[[175.0, 238.0, 238.0]]]) / 255
_MUD = np.array([[[63.0, 42.0, 20.0]]]) / 255


@CORRUPTIONS.register("spatter", order=18)
class Spatter(Corruption[Drops]):
    """Drops of water (severities 1 to 3) or mud on the lens.

    Parameters: mean and standard deviation of the noise that becomes drops, the σ in pixels that smooths it, the threshold
    below which there is none, the strength of water or the σ of mud, and 1 for mud. Distances from the edges of drops are exact
    here, those of the published data are OpenCV's approximation.
    """

    title = "spatter"
    large = (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    )
    small = (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    )

    def _corrupt(self, pixels: Array, parameters: Drops, scale: float, generator: torch.Generator) -> Array:
        """Add drops of water, or cover with mud."""
        mean, spread, sigma, threshold, strength, mud = parameters
        # Smoothing leaves noise a spread in inverse proportion to σ: as many drops at every size of image.
        noise = normal(mean, spread * scale, pixels.shape[:2], generator)
        drops = blurred(noise[:, :, None], sigma * scale)[:, :, 0]
        drops[drops < threshold] = 0
        if mud:
            cover = blurred((drops > threshold).astype(np.float64)[:, :, None], strength * scale)
            cover[cover < 0.8] = 0
            return pixels * (1 - cover) + cover * _colour(_MUD, pixels)
        relief = drop_relief(np.floor(drops.clip(0, 1) * 255).astype(np.uint8))
        return pixels + strength * relief[:, :, None] * _colour(_WATER, pixels)


def _colour(colour: Array, pixels: Array) -> Array:
    """Return a colour (1, 1, 3) for an image: itself, or its luma for a grey one."""
    return grey(colour) if pixels.shape[2] == 1 else colour
