"""The small random movements under which a picture has to keep its effect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

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
    be an edge of its own.
    """

    jitter: float = 8.0
    scale: float = 0.1
    rotate: float = 10.0
    last_jitter: float = 4.0

    @classmethod
    def none(cls) -> Transforms:
        """Return the set that moves nothing."""
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
