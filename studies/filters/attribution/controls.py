"""Three maps that know nothing of the network, beside which the methods are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.core.seeds import generator
from studies.filters.attribution.subject import AttributionSubject


class _Free:
    """Base of the controls, which need no pass."""

    signed: ClassVar[bool] = False
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = True

    def economical(self) -> Self:
        """Return itself."""
        return self

    def passes(self, size: tuple[int, int]) -> float:
        """Return 0."""
        return 0.0


@dataclass(frozen=True)
class RandomMap(_Free):
    """Uniform noise, the same for every image and class."""

    seed: int = 0

    key: ClassVar[str] = "random"
    title: ClassVar[str] = "Random map"

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return noise in [0, 1], (N, 1, H, W)."""
        noise = torch.rand(images.shape[-2:], generator=generator(self.seed, "random map"))
        return noise.to(images).expand(len(images), 1, -1, -1)


@dataclass(frozen=True)
class Edges(_Free):
    """Sobel's gradient magnitude, averaged over colours: what stands out in the image, whatever the class."""

    key: ClassVar[str] = "edges"
    title: ClassVar[str] = "Edge detector"

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the magnitude, (N, 1, H, W); the border is continued by its own pixels."""
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(images)
        kernels = torch.stack([across, across.T])[:, None]
        flat = F.pad(images.detach().flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
        sizes = F.conv2d(flat, kernels).square().sum(1).sqrt()
        return sizes.view(len(images), -1, *images.shape[-2:]).mean(1, keepdim=True)


@dataclass(frozen=True)
class Centre(_Free):
    """A round blob in the middle, the same for every image: photographs and digits have their subject there."""

    key: ClassVar[str] = "centre"
    title: ClassVar[str] = "Blob in the middle"

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return a Gaussian whose standard deviation is a quarter of each side, (N, 1, H, W)."""
        rows, cols = ((torch.arange(side) + 0.5) / side - 0.5 for side in images.shape[-2:])
        blob = torch.exp(-8 * (rows[:, None] ** 2 + cols**2))
        return blob.to(images).expand(len(images), 1, -1, -1)
