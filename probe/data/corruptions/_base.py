"""The interface of corruptions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Array = NDArray[np.float64]
Family = Literal["noise", "blur", "weather", "digital", "extra"]
P = TypeVar("P")
Five = tuple[P, P, P, P, P]

LARGE, SMALL = 224, 32
"""The sides of the images for which parameters are published."""

_BETWEEN = math.sqrt(LARGE * SMALL)
_ROUNDING = 1e-6


class Corruption(ABC, Generic[P]):
    """One kind of corruption, with its parameters at severities 1 to 5.

    ``large`` are those of ImageNet-C, for 224 pixels, ``small`` those of CIFAR-10-C, for 32. ``alexnet`` is the error of
    AlexNet averaged over the severities, by which errors are divided (Hendrycks & Dietterich 2019, table 1); None for kinds
    that are not in the benchmark.
    """

    title: ClassVar[str]
    family: ClassVar[Family] = "extra"
    large: ClassVar[Five[Any]]
    small: ClassVar[Five[Any]]
    alexnet: ClassVar[float | None] = None

    def apply(self, images: Tensor, severity: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Return corrupted copies of ``images``: pixels (N, 1 or 3, H, W) in [0, 1], float32, same device.

        The pixels are rounded to 8 bits first, and the results are multiples of 1/255. ``severity`` is 1 to 5.
        ``generators`` has one for each image, from which all randomness comes, so that an image does not depend on the others
        of its batch. Raises ValueError for other severities, shapes and numbers of generators.
        """
        if severity not in range(1, 6):
            raise ValueError(f"severity must be 1 to 5, not {severity}")
        if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape[2:]) < 1:
            raise ValueError(f"expected images of shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
        if len(generators) != len(images):
            raise ValueError(f"expected a generator for each of {len(images)} images, got {len(generators)}")
        parameters, scale = self.parameters(severity, min(images.shape[2:]))
        stored = torch.empty(images.shape, dtype=torch.float32)
        pixels = images.detach().to("cpu", torch.float64).clamp(0, 1).mul(255).round().div(255)
        for index, generator in enumerate(generators):
            array = np.ascontiguousarray(pixels[index].permute(1, 2, 0).numpy())
            found = self._corrupt(array, parameters, scale, generator).clip(0, 1) * 255
            # As in the published data, pixels are cut off to 8 bits, not rounded; whole ones stay what they are.
            eight = np.ascontiguousarray(np.floor(found + _ROUNDING) / 255)
            stored[index] = torch.from_numpy(eight).permute(2, 0, 1)
        return stored.to(images.device)

    def parameters(self, severity: int, side: int) -> tuple[P, float]:
        """Return the parameters for a shorter side in pixels, and the factor by which lengths in them are scaled."""
        large = side >= _BETWEEN
        published = self.large if large else self.small
        return published[severity - 1], side / (LARGE if large else SMALL)

    @abstractmethod
    def _corrupt(self, pixels: Array, parameters: P, scale: float, generator: torch.Generator) -> Array:
        """Return a corrupted copy of one image (H, W, 1 or 3), multiples of 1/255 in [0, 1]; clipped and cut off later."""


def eight_bits(pixels: Array) -> Array:
    """Return pixels as they come back from an 8-bit file, rounded to nearest."""
    found: Array = np.rint(pixels.clip(0, 1) * 255) / 255
    return found


def grey(pixels: Array) -> Array:
    """Return the luma of ITU-R 601 of an image (H, W, 1 or 3) as (H, W, 1)."""
    if pixels.shape[2] == 1:
        return pixels
    found: Array = pixels @ np.array([[0.299], [0.587], [0.114]])
    return found


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Array:
    """Draw from a uniform distribution."""
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (low + (high - low) * drawn).numpy()


def normal(mean: float, spread: float, shape: tuple[int, ...], generator: torch.Generator) -> Array:
    """Draw from a normal distribution."""
    return (mean + spread * torch.randn(shape, generator=generator, dtype=torch.float64)).numpy()


def to_picture(pixels: Array) -> Image.Image:
    """Return an image (H, W, 1 or 3) as a Pillow image of 8 bits."""
    eight = np.rint(pixels * 255).astype(np.uint8)
    return Image.fromarray(eight[:, :, 0] if eight.shape[2] == 1 else eight)


def from_picture(picture: Image.Image) -> Array:
    """Return a Pillow image of 8 bits as (H, W, 1 or 3)."""
    found = np.asarray(picture, dtype=np.float64) / 255
    return found[:, :, None] if found.ndim == 2 else found
