"""The corruption ``defocus_blur``."""

from __future__ import annotations

import torch

from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Array, Corruption
from probe.data.corruptions._blurs import correlated, disk

Disk = tuple[float, float]


@CORRUPTIONS.register("defocus_blur", order=4)
class DefocusBlur(Corruption[Disk]):
    """A blur by a disk, as of a lens out of focus; parameters: its radius, and the σ that smooths its edge, in pixels."""

    title = "defocus blur"
    family = "blur"
    large = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    small = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    alexnet = 0.82

    def _corrupt(self, pixels: Array, parameters: Disk, scale: float, generator: torch.Generator) -> Array:
        """Correlate with the disk."""
        radius, smooth = parameters
        return correlated(pixels, disk(radius * scale, smooth * scale))
