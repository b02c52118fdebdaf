"""The corruption ``shift``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Amounts, begin

AMOUNTS: Amounts = (0.02, 0.04, 0.08, 0.12, 0.16)
"""Length of the shift as a fraction of the side in its direction."""

_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


@CORRUPTIONS.register("shift", order=6)
@dataclass(frozen=True)
class Shift:
    """A shift left, right, up or down by at least one whole pixel; edge pixels fill the gap.

    The length is a fraction of the side in the direction of the shift: 4 to 36 of 224 pixels, 1 of 8.
    """

    name: str = "shift"
    unit: str = "fraction of the side"
    amounts: Amounts = AMOUNTS

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Shift each image in a direction drawn from ``generator``; see ``Corruption.apply``."""
        pixels, part = begin(self, images, severity)
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


def _sources(side: int, offset: int, device: torch.device) -> Tensor:
    """Return the source position for each position along a side after a shift, with repeated edges."""
    return (torch.arange(side, device=device) - offset).clamp(0, side - 1)
