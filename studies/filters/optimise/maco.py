"""Pictures whose Fourier magnitude is that of natural images; only the phase is optimised (MACO, Fel et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probe.core.errors import UsageError
from studies.filters.optimise.basis import FourierBasis, Parametrisation, Transforms

PHASE_RATE = 0.3
"""Learning rate of phases, in radians: of 0.1, 0.3 and 1 it gave the largest values in three layers of the embedded network."""

_CONTRAST_OF_PHOTOGRAPHS = 7.0
"""Standard deviation of a plane with the mean magnitude of 20 photographs: 7.2, 6.2 and 7.9 of the three of colour pictures."""


@dataclass(frozen=True)
class FixedMagnitude(Parametrisation):
    """Pictures as the phases (N, planes, H, W // 2 + 1) of planes whose ``magnitude`` (planes, H, W // 2 + 1) is fixed.

    The planes' magnitude is exact; the sigmoid between planes and pixels then changes that of the pixels. The constant term
    has the sign of the plane's mean and no phase.
    """

    magnitude: Tensor = field(default_factory=lambda: torch.zeros(0), compare=False)

    def start(self, generator: torch.Generator) -> Tensor:
        """Draw the first phases evenly from −π to π."""
        shape = self.planes, self.basis.height, self.basis.width // 2 + 1
        return (torch.rand(shape, generator=generator, device=generator.device) * 2 - 1) * math.pi

    def pictures(self, coefficients: Tensor) -> Tensor:
        """Turn phases (N, planes, H, W // 2 + 1) into pictures (N, channels, H, W) in (0, 1)."""
        phases = odd_phases(coefficients, self.basis.width)
        magnitude = self.magnitude.to(phases)
        spectrum = torch.complex(magnitude * phases.cos(), magnitude * phases.sin())
        planes = torch.fft.irfft2(spectrum, s=(self.basis.height, self.basis.width), norm="ortho")
        return self.coloured(planes)

    def coefficients(self, pictures: Tensor) -> Tensor:
        """Refuse: a picture with another magnitude has no phases here that give it."""
        raise UsageError("Pictures of a fixed magnitude cannot start from an image.")


def odd_phases(phases: Tensor, width: int) -> Tensor:
    """Return phases that are those of a real plane ``width`` pixels wide, the nearest sense in which each is still free.

    In the first column of a real transform, and the last of an even width, the frequencies (u, v) and (−u, v) are each
    other's conjugates: their phases must be opposite, or part of the magnitude is lost.
    """
    mirrored = phases.flip(-2).roll(1, -2)  # row u has what row −u had
    edge = torch.zeros(phases.shape[-1], dtype=torch.bool, device=phases.device)
    edge[0] = True
    edge[-1] = edge[-1] | (width % 2 == 0)
    return torch.where(edge, phases - mirrored, phases)


def fixed_magnitude(parametrisation: Parametrisation, images: Tensor | None) -> Tensor:
    """Return the magnitude of images (N, C, H, W) in [0, 1], or without any the power law; UsageError for other channels."""
    if images is None:
        return power_law(parametrisation)
    if images.dim() != 4 or images.shape[1] != parametrisation.channels:
        raise UsageError(
            f"A magnitude is that of images (N, {parametrisation.channels}, H, W), not of shape {tuple(images.shape)}."
        )
    return mean_magnitude(parametrisation, images)


def mean_magnitude(parametrisation: Parametrisation, images: Iterable[Tensor]) -> Tensor:
    """Return the mean Fourier magnitude of images (C, H, W) in [0, 1], for ``FixedMagnitude``.

    It is that of the decorrelated planes before the sigmoid, orthonormal, (planes, H, W // 2 + 1), without the jump from one
    edge to the opposite one. Of larger images the middle is taken; raises UsageError for smaller ones, and for none.
    """
    basis = parametrisation.basis
    count = 0
    total = torch.zeros(parametrisation.planes, basis.height, basis.width // 2 + 1)
    for image in images:
        planes = parametrisation.uncoloured(middle(image, (basis.height, basis.width))[None])[0]
        spectrum = periodic_spectrum(planes.float().cpu())
        # The mean colour has a sign; what the others keep of it is their phase.
        size = spectrum.abs()
        size[:, 0, 0] = spectrum.real[:, 0, 0]
        total += size
        count += 1
    if count == 0:
        raise UsageError("The mean magnitude of images needs at least one image.")
    return total / count


def periodic_spectrum(planes: Tensor) -> Tensor:
    """Return the orthonormal spectrum of the periodic component of planes (…, H, W) (Moisan 2011).

    The transform continues an image periodically, so that the jumps at its edges become a cross of horizontal and vertical
    frequencies, which pictures made with random phases show as a weave. The smooth component, which has
    these jumps and no others, is taken away; the mean stays.
    """
    height, width = planes.shape[-2:]
    jumps = torch.zeros_like(planes)
    jumps[..., 0, :] += planes[..., -1, :] - planes[..., 0, :]
    jumps[..., -1, :] += planes[..., 0, :] - planes[..., -1, :]
    jumps[..., :, 0] += planes[..., :, -1] - planes[..., :, 0]
    jumps[..., :, -1] += planes[..., :, 0] - planes[..., :, -1]
    rows = torch.cos(2 * math.pi * torch.fft.fftfreq(height))[:, None]
    columns = torch.cos(2 * math.pi * torch.fft.rfftfreq(width))[None, :]
    laplacian = (2 * (rows + columns) - 4).to(planes)
    laplacian[0, 0] = 1
    smooth = torch.fft.rfft2(jumps, norm="ortho") / laplacian
    smooth[..., 0, 0] = 0
    spectrum: Tensor = torch.fft.rfft2(planes, norm="ortho") - smooth
    return spectrum


def middle(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the middle (C, H, W) of an image that is at least as large; raises UsageError otherwise."""
    height, width = size
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    if top < 0 or left < 0:
        raise UsageError(
            f"A picture of {height}×{width} px needs images that are at least as large, not "
            f"{image.shape[-2]}×{image.shape[-1]}."
        )
    return image[..., top : top + height, left : left + width]


def power_law(parametrisation: Parametrisation) -> Tensor:
    """Return magnitudes 1 / frequency, (planes, H, W // 2 + 1), with the contrast of photographs and mean grey."""
    basis = parametrisation.basis
    law = FourierBasis(basis.height, basis.width).scale()
    law[0, 0] = 0
    # Every frequency but those of the first column, and of the last of an even width, stands for its conjugate, too.
    twice = torch.full((basis.width // 2 + 1,), 2.0)
    twice[0] = 1
    if basis.width % 2 == 0:
        twice[-1] = 1
    power = (law.square() * twice).sum() / (basis.height * basis.width)
    law = law / power.sqrt().clamp_min(torch.finfo(law.dtype).tiny)
    return (law * _CONTRAST_OF_PHOTOGRAPHS).repeat(parametrisation.planes, 1, 1)


@dataclass(frozen=True)
class Crops(Transforms):
    """The transformation set of Fel et al. 2023: a window of random size and place, and noise.

    The network sees a window of ``share`` (from, to) of the picture's sides, enlarged to the picture's size, whose centre is
    normally distributed about that of the picture with a standard deviation of ``spread`` of its sides, as far as it stays inside.
    """

    share: tuple[float, float] = (0.7, 1.0)
    spread: float = 0.15
    noise: float = 0.01

    @property
    def moves(self) -> bool:
        """Whether the window is ever smaller than the picture."""
        return min(self.share) < 1

    def draw(self, steps: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw one window per step as affine matrices (steps, 2, 3), in the form of ``affine_grid``."""
        device = generator.device
        low, high = self.share
        share = low + (high - low) * torch.rand(steps, 1, generator=generator, device=device)
        # Grid coordinates run from −1 to 1, so that a side is 2 long.
        centre = 2 * self.spread * torch.randn(steps, 2, generator=generator, device=device)
        centre = torch.maximum(torch.minimum(centre, 1 - share), share - 1)
        return torch.cat([torch.eye(2, device=device) * share[:, :, None], centre[:, :, None]], 2)
