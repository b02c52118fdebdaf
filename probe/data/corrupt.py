"""Ordinary corruptions at five severities: what happens to pictures without anybody wanting to mislead.

Kinds and amounts are those of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, for images of 224 pixels a side. Amounts that are lengths (the blur's σ
and the shift) are parts of the image's side, so that a severity means the same on a small image. The shift is not
among theirs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from probe.core.document import to_uint8

Amounts = tuple[float, float, float, float, float]

NOISE: Amounts = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation of the noise in pixel units, where black is 0 and white is 1."""
BLUR: Amounts = (1 / 224, 2 / 224, 3 / 224, 4 / 224, 6 / 224)
"""Standard deviation σ of the blur as a part of the shorter side: 1, 2, 3, 4, 6 pixels of 224."""
JPEG: Amounts = (25, 18, 15, 10, 7)
"""JPEG quality, from 1 (worst) to 95."""
BRIGHTNESS: Amounts = (0.1, 0.2, 0.3, 0.4, 0.5)
"""What is added to the largest colour channel (the value of HSV) in pixel units."""
CONTRAST: Amounts = (0.4, 0.3, 0.2, 0.1, 0.05)
"""Factor on each pixel's distance from its channel's mean; 1 would leave the image as it is."""
SHIFT: Amounts = (0.02, 0.04, 0.08, 0.12, 0.16)
"""Length of the shift as a part of the side along which it goes."""

_TRUNCATE = 4.0
_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


class Corruption(Protocol):
    """One kind of corruption; ``amounts`` are its strengths at severities 1 to 5, ``unit`` what they count."""

    @property
    def name(self) -> str:
        """What a report calls it."""

    @property
    def unit(self) -> str:
        """What the amounts count."""

    @property
    def amounts(self) -> Amounts:
        """The strength at severities 1, 2, 3, 4, 5."""

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Return corrupted copies of ``images``: pixels (N, 1 or 3, H, W) in [0, 1], float32, same device.

        ``severity`` runs from 1 to 5. All chance comes from ``generator``; kinds without chance leave it alone.
        Raises ValueError for other severities and shapes.
        """


@dataclass(frozen=True)
class GaussianNoise:
    """Independent normal noise on every pixel and channel, clipped to [0, 1]."""

    name: str = "Gaussian noise"
    unit: str = "standard deviation in pixel units"
    amounts: Amounts = NOISE

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Add noise drawn from ``generator``; see ``Corruption.apply``."""
        pixels, sigma = _begin(self, images, severity)
        noise = torch.randn(pixels.shape, generator=generator, device=generator.device)
        return (pixels + sigma * noise.to(pixels.device)).clamp(0, 1)


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian blur, like a lens out of focus; the image goes on outside as its edge pixels.

    σ is a part of the shorter side: 224 pixels are blurred by 1 to 6 pixels, 8 × 8 pixels hardly at all.
    """

    name: str = "Gaussian blur"
    unit: str = "σ, part of the shorter side"
    amounts: Amounts = BLUR

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Blur by the separable Gaussian, cut off at 4 σ; see ``Corruption.apply``."""
        pixels, part = _begin(self, images, severity)
        sigma = part * min(pixels.shape[2:])
        radius = int(_TRUNCATE * sigma + 0.5)
        distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weights = torch.softmax(-(distance**2) / (2 * sigma**2), 0).to(pixels)
        channels = pixels.shape[1]
        for shape, pad in (((1, 1, -1, 1), (0, 0, radius, radius)), ((1, 1, 1, -1), (radius, radius, 0, 0))):
            kernel = weights.view(shape).repeat(channels, 1, 1, 1)
            pixels = F.conv2d(F.pad(pixels, pad, mode="replicate"), kernel, groups=channels)
        return pixels.clamp(0, 1)


@dataclass(frozen=True)
class JpegCompression:
    """Storing as JPEG with half the colour resolution; its blocks are 8 × 8 pixels whatever the image's size."""

    name: str = "JPEG"
    unit: str = "quality"
    amounts: Amounts = JPEG

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Encode and decode every image through 8-bit pixels; see ``Corruption.apply``."""
        pixels, quality = _begin(self, images, severity)
        stored = torch.empty_like(pixels)
        for index, image in enumerate(pixels.cpu()):
            buffer = io.BytesIO()
            Image.fromarray(to_uint8(image)).save(buffer, "JPEG", quality=int(quality))
            array = np.array(Image.open(buffer))
            decoded = torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)
            stored[index] = decoded.to(pixels) / 255
        return stored


@dataclass(frozen=True)
class Brightness:
    """More light: the value of HSV is raised and clipped at 1, hue and saturation stay."""

    name: str = "brightness"
    unit: str = "added value in pixel units"
    amounts: Amounts = BRIGHTNESS

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Raise each pixel's largest channel and scale the others with it; see ``Corruption.apply``."""
        pixels, added = _begin(self, images, severity)
        value = pixels.amax(1, keepdim=True)
        ratio = torch.where(value > 0, pixels / value, 1.0)  # black has no hue and becomes grey
        return (ratio * (value + added).clamp(0, 1)).clamp(0, 1)


@dataclass(frozen=True)
class Contrast:
    """Less contrast: every pixel is drawn towards the mean of its channel in its image."""

    name: str = "contrast"
    unit: str = "factor on the distance from the mean"
    amounts: Amounts = CONTRAST

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Scale the distance from the channel's mean; see ``Corruption.apply``."""
        pixels, factor = _begin(self, images, severity)
        mean = pixels.mean(dim=(2, 3), keepdim=True)
        return (mean + factor * (pixels - mean)).clamp(0, 1)


@dataclass(frozen=True)
class Shift:
    """A shift left, right, up or down by whole pixels, at least one; edge pixels fill what comes into sight.

    The length is a part of the side along which the shift goes: 4 to 36 of 224 pixels, 1 of 8.
    """

    name: str = "shift"
    unit: str = "part of the side"
    amounts: Amounts = SHIFT

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Shift each image in a direction drawn from ``generator``; see ``Corruption.apply``."""
        pixels, part = _begin(self, images, severity)
        drawn = torch.randint(
            len(_DIRECTIONS), (len(pixels),), generator=generator, device=generator.device
        ).tolist()
        moved = torch.empty_like(pixels)
        for index, direction in enumerate(drawn):
            rows, columns = (
                _sources(side, sign * max(1, round(part * side)), pixels.device)
                for side, sign in zip(pixels.shape[2:], _DIRECTIONS[direction], strict=True)
            )
            moved[index] = pixels[index][:, rows[:, None], columns]
        return moved


CORRUPTIONS: tuple[Corruption, ...] = (
    GaussianNoise(),
    GaussianBlur(),
    JpegCompression(),
    Brightness(),
    Contrast(),
    Shift(),
)
"""Every kind at its published amounts."""


def _begin(kind: Corruption, images: Tensor, severity: int) -> tuple[Tensor, float]:
    """Check the arguments and return the pixels as float32, cut off from any graph, with the kind's amount."""
    if severity not in range(1, 6):
        raise ValueError(f"severity runs from 1 to 5, not {severity}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape[2:]) < 1:
        raise ValueError(f"expected images of shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    return images.detach().to(torch.float32), kind.amounts[severity - 1]


def _sources(side: int, offset: int, device: torch.device) -> Tensor:
    """Return, for each position along a side, the position that an offset brings there, edges repeated."""
    return (torch.arange(side, device=device) - offset).clamp(0, side - 1)
