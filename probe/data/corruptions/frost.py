"""The corruption ``frost``."""

from __future__ import annotations

import numpy as np
import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption, grey, normal, uniform

Mixture = tuple[float, float]

_MEAN, _SPREAD, _FALL = (0.48, 0.80), 0.09, 0.85
_TINT = np.array([-0.07, 0.013, 0.057])
_NEEDLE = 24.0, 1.2
"""Length and width of a needle as the σ of Gaussians, in pixels of an image with a side of 224."""


@CORRUPTIONS.register("frost", order=9)
class Frost(Corruption[Mixture]):
    """Ice crystals over the image; parameters: the factors on the image and on the frost.

    The published frost is cut from five photographs that cannot be shipped. This one is drawn: needles in six directions on
    a fractal ground, bluish, with the photographs' mean (0.64), spread (0.09) and fall of the spectrum, about. Numbers under
    frost are therefore near those of the published data, not equal to them.
    """

    title = "frost"
    family = "weather"
    large = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
    small = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
    alexnet = 0.827

    def _corrupt(self, pixels: Array, parameters: Mixture, scale: float, generator: torch.Generator) -> Array:
        """Add drawn frost."""
        image, ice = parameters
        height, width, _ = pixels.shape
        layer = _frost(height, width, generator)
        found: Array = image * pixels + ice * (grey(layer) if pixels.shape[2] == 1 else layer)
        return found


def _frost(height: int, width: int, generator: torch.Generator) -> Array:
    """Draw frost (H, W, 3): needles on a ground whose spectrum falls with the frequency, of a drawn mean brightness."""
    unit = min(height, width) / 224
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]

    def drawn(transfer: Array) -> Array:
        noise = normal(0.0, 1.0, (height, width), generator)
        return _standard(np.fft.irfft2(np.fft.rfft2(noise) * transfer, (height, width)))

    lowest = 1 / max(height, width)
    ground = drawn(np.hypot(vertical, horizontal).clip(lowest) ** -_FALL)
    turned = float(uniform(0, np.pi / 6, (), generator))
    layers = []
    for direction in turned + np.arange(6) * np.pi / 6:
        along = horizontal * np.cos(direction) + vertical * np.sin(direction)
        beside = vertical * np.cos(direction) - horizontal * np.sin(direction)
        spread = (along * _NEEDLE[0]) ** 2 + (beside * _NEEDLE[1]) ** 2
        layers.append(drawn(np.exp(-2 * (np.pi * unit) ** 2 * spread)))
    needles = _standard(np.max(layers, axis=0))
    mean = float(uniform(*_MEAN, (), generator))
    ice = mean + _SPREAD * _standard(0.8 * ground + 0.6 * needles)
    found: Array = (ice[:, :, None] + _TINT).clip(0, 1)
    return found


def _standard(values: Array) -> Array:
    """Return values with mean 0 and standard deviation 1, or 0 where they are all equal."""
    found: Array = (values - values.mean()) / (values.std() or 1.0)
    return found
