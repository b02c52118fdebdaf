"""Rotations and shifts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.attacks.threats import THREATS
from probe.attacks.threats._grid import GridThreat


@THREATS.register("spatial", order=1)
@dataclass(frozen=True)
class Spatial(GridThreat):
    """Rotations and shifts, the worst of a grid (Engstrom et al. 2019).

    ``degrees``: the largest rotation; ``shift``: the largest shift along each side, as a part of it; ``rotations`` and
    ``shifts``: points of the grid within each of four budgets, 189 by default (the paper has one budget with 31 × 5 × 5). What
    comes into the image from outside is black.
    """

    degrees: float = 30.0
    shift: float = 0.1
    rotations: int = 21
    shifts: int = 3

    title: ClassVar[str] = "Rotations and shifts"
    axis: ClassVar[str] = "part of the largest rotation and shift"
    paper: ClassVar[str] = (
        'Engstrom et al., "Exploring the Landscape of Spatial Robustness", 2019; black borders as there'
    )

    @property
    def counts(self) -> tuple[int, ...]:
        """Rotations, shifts down, shifts right."""
        return self.rotations, self.shifts, self.shifts

    def change(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Turn images counterclockwise and shift them down and right, with bilinear interpolation."""
        height, width = images.shape[2:]
        angle = parameters[:, 0] * math.radians(self.degrees)
        down, right = 2 * self.shift * parameters[:, 1], 2 * self.shift * parameters[:, 2]
        cos, sin, stretch = angle.cos(), angle.sin(), height / width
        # Where each pixel comes from, in coordinates from −1 to 1 along each side.
        matrix = torch.stack(
            [
                torch.stack([cos, -sin * stretch, -cos * right + sin * stretch * down], 1),
                torch.stack([sin / stretch, cos, -sin / stretch * right - cos * down], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def describe(self, budget: float) -> str:
        """Write the largest rotation and shift."""
        return f"rotations up to {budget * self.degrees:.3g}° and shifts up to {100 * budget * self.shift:.3g}% of the side"

    @property
    def how(self) -> str:
        """How the worst one was looked for."""
        return (
            f"Within each budget all {self.rotations * self.shifts**2} combinations of {self.rotations} rotations and {self.shifts} × "
            f"{self.shifts} shifts were tried; black comes in from outside. The control is one rotation and shift drawn evenly within "
            "the budget for each image; one that is wrong without counts as broken."
        )
