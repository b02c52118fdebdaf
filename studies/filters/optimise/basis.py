"""Pictures as Fourier coefficients of decorrelated colour planes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

_INITIAL_SD = 0.01
"""Standard deviation of the first coefficients: the picture starts as a faint 1/f texture on grey."""

_CONTRAST = 0.25
"""Divides the planes before the sigmoid, so that the first steps stay out of saturation."""

_LEAST_SHADE = 1 / 1024
"""How far from black and white a pixel counts where pictures are turned back into planes: a quarter of a step of 8 bits."""

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

    def coefficients(self, planes: Tensor) -> Tensor:
        """Return the coefficients (…, H, W // 2 + 1, 2) that ``planes`` turns into planes (…, H, W)."""
        spectrum = torch.view_as_real(torch.fft.rfft2(planes, norm="ortho"))
        return spectrum / self.scale().to(spectrum)[..., None]


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
        return self.coloured(self.basis.planes(coefficients))

    def coefficients(self, pictures: Tensor) -> Tensor:
        """Return the coefficients of pictures (N, channels, H, W) in [0, 1]; the inverse of ``pictures``."""
        return self.basis.coefficients(self.uncoloured(pictures))

    def coloured(self, planes: Tensor) -> Tensor:
        """Mix planes (N, planes, H, W) to pictures (N, channels, H, W) in (0, 1)."""
        planes = planes * _CONTRAST
        if self.grey:
            return torch.sigmoid(planes).expand(-1, self.channels, -1, -1)
        if self.channels == 3:
            planes = torch.einsum("rp,nphw->nrhw", colour_axes().to(planes), planes)
        return torch.sigmoid(planes)

    def uncoloured(self, pictures: Tensor) -> Tensor:
        """Return the planes (N, planes, H, W) of pictures (N, channels, H, W) in [0, 1]; black and white count as almost so."""
        planes = torch.logit(pictures.clamp(_LEAST_SHADE, 1 - _LEAST_SHADE))
        if self.grey:
            planes = planes.mean(1, keepdim=True)
        elif self.channels == 3:
            planes = torch.einsum("pr,nrhw->nphw", torch.linalg.inv(colour_axes()).to(planes), planes)
        return planes / _CONTRAST


_REFERENCE = 128
"""Side of the pictures that the published numbers of pixels belong to."""

_NUMBERS = 6
"""Random numbers that one movement takes."""


@dataclass(frozen=True)
class Transforms:
    """The transformation set of Olah 2017: jitter, scale, rotate, jitter again.

    ``jitter`` and ``last_jitter`` are the ranges of a shift in pixels, ``scale`` is the largest relative change
    of size, ``rotate`` the largest angle in degrees; all are drawn evenly. The network sees a window of the picture's
    own size. Where it reaches past the edge it sees the picture mirrored and not a grey border, which would
    be an edge of its own. ``noise`` is the standard deviation of what is then added to the pixels.
    """

    jitter: float = 8.0
    scale: float = 0.1
    rotate: float = 10.0
    last_jitter: float = 4.0
    noise: float = 0.0

    @classmethod
    def none(cls) -> Transforms:
        """Return the set without any movement."""
        return cls(0.0, 0.0, 0.0, 0.0)

    @classmethod
    def for_size(cls, size: tuple[int, int]) -> Transforms:
        """Return the published set for pictures (H, W); below 128 pixels the shifts shrink in proportion."""
        share = min(1.0, min(size) / _REFERENCE)
        return cls(jitter=cls.jitter * share, last_jitter=cls.last_jitter * share)

    def within(self, pixels: float) -> Transforms:
        """Return the set with ranges of a shift of at most ``pixels``."""
        return replace(self, jitter=min(self.jitter, pixels), last_jitter=min(self.last_jitter, pixels / 2))

    @property
    def moves(self) -> bool:
        """Whether any movement is left."""
        return any((self.jitter, self.scale, self.rotate, self.last_jitter))

    def draw(self, steps: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw one movement per step as affine matrices (steps, 2, 3), in the form of ``affine_grid``."""
        uniform = torch.rand(steps, _NUMBERS, generator=generator, device=generator.device) * 2 - 1
        first, last = uniform[:, 0:2] * (self.jitter / 2), uniform[:, 2:4] * (self.last_jitter / 2)
        zoom = 1 + uniform[:, 4] * self.scale
        angle = uniform[:, 5] * math.radians(self.rotate)
        cosine, sine = angle.cos() / zoom, angle.sin() / zoom
        linear = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)
        shift = torch.einsum("sij,sj->si", linear, last) + first
        return _in_grid_units(linear, shift, size)

    @staticmethod
    def apply(pictures: Tensor, movements: Tensor) -> Tensor:
        """Move pictures (N, C, H, W), each by its own matrix of (N, 2, 3), with bilinear interpolation."""
        grid = F.affine_grid(movements.to(pictures), list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def _in_grid_units(linear: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn a map between pixels (x, y from the centre) into one between coordinates that run from −1 to 1."""
    half = torch.tensor([size[1] / 2, size[0] / 2], device=linear.device)
    return torch.cat([linear * half / half[:, None], (shift / half)[:, :, None]], 2)
