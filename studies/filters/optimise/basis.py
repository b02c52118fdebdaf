"""Pictures as Fourier coefficients of decorrelated colour planes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_INITIAL_SD = 0.01
"""Standard deviation of the first coefficients: the picture starts as a faint 1/f texture on grey."""

_CONTRAST = 0.25
"""Divides the planes before the sigmoid, so that the first steps stay out of saturation."""

_COLOUR_AXES = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Square root of the covariance of ImageNet's colours as published with Olah 2017; columns are the axes."""


@dataclass(frozen=True)
class FourierBasis:
    """Real planes (H, W) as the coefficients of a two-dimensional real Fourier transform.

    ``decay`` is the power of the frequency by which each coefficient is divided: 1 gives every
    octave of a natural image's spectrum the same say.
    """

    height: int
    width: int
    decay: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one plane's coefficients: rows, half the columns and one, real and imaginary part."""
        return self.height, self.width // 2 + 1, 2

    def scale(self) -> Tensor:
        """Return what each coefficient is multiplied with, shape (H, W // 2 + 1).

        It is frequency^-decay in cycles per pixel; the constant term gets the value of the lowest frequency.
        """
        rows = torch.fft.fftfreq(self.height)[:, None]
        columns = torch.fft.rfftfreq(self.width)[None, :]
        lowest = 1 / max(self.height, self.width)
        scale: Tensor = torch.hypot(rows, columns).clamp_min(lowest).pow(-self.decay)
        return scale

    def planes(self, coefficients: Tensor) -> Tensor:
        """Turn coefficients (…, H, W // 2 + 1, 2) into planes (…, H, W); orthonormal but for ``scale``."""
        scale = self.scale().to(coefficients)
        spectrum = torch.view_as_complex((coefficients * scale[..., None]).contiguous())
        planes: Tensor = torch.fft.irfft2(spectrum, s=(self.height, self.width), norm="ortho")
        return planes


def colour_axes() -> Tensor:
    """Return the (3, 3) matrix from decorrelated planes to RGB; its longest column has length 1."""
    axes = torch.tensor(_COLOUR_AXES)
    unit: Tensor = axes / axes.norm(dim=0).max()
    return unit


@dataclass(frozen=True)
class Parametrisation:
    """Pictures (N, ``channels``, H, W) in [0, 1] as unbounded coefficients.

    Three channels are mixed from decorrelated planes; ``grey`` gives all channels one plane; any
    other number of channels has a plane each.
    """

    basis: FourierBasis
    channels: int = 3
    grey: bool = False

    @property
    def planes(self) -> int:
        """Number of independent planes."""
        return 1 if self.grey else self.channels

    def start(self, generator: torch.Generator) -> Tensor:
        """Draw the first coefficients of one picture on the generator's device."""
        shape = (self.planes, *self.basis.shape)
        return torch.randn(shape, generator=generator, device=generator.device) * _INITIAL_SD

    def pictures(self, coefficients: Tensor) -> Tensor:
        """Turn coefficients (N, planes, H, W // 2 + 1, 2) into pictures (N, channels, H, W) in (0, 1)."""
        planes = self.basis.planes(coefficients) * _CONTRAST
        if self.grey:
            return torch.sigmoid(planes).expand(-1, self.channels, -1, -1)
        if self.channels == 3:
            planes = torch.einsum("rp,nphw->nrhw", colour_axes().to(planes), planes)
        return torch.sigmoid(planes)
