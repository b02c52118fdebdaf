"""The types of the data layer: a model's input, an image before it is read, and a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from probe.core.errors import ProbeError, UsageError

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True)
class InputSpec:
    """A model's input: (channels, height, width), and how a photograph is resized and cropped to it.

    ``crop`` in (0, 1] is the fraction of the resized shorter side that the centre crop keeps (torchvision's
    256 → 224 is 0.875); images that are already framed are resized without a crop. Sizes below 1, a crop
    outside (0, 1] and an unknown interpolation raise UsageError.
    """

    size: tuple[int, int, int] = (3, 224, 224)
    crop: float = 0.875
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Raise UsageError for invalid values."""
        if len(self.size) != 3 or min(self.size) < 1:
            raise UsageError(
                f"An input size must be (channels, height, width), each at least 1; got {self.size}."
            )
        if not 0 < self.crop <= 1:
            raise UsageError(f"The crop must be a fraction of the shorter side in (0, 1]; got {self.crop}.")
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise UsageError(f"There is no interpolation '{self.interpolation}'. Available: {known}.")


class UnreadableError(ProbeError):
    """An image cannot be used; the message is the reason in the report."""


@dataclass(frozen=True)
class Item:
    """An image before it is read: its name, its label, and a function that reads it.

    ``read`` returns a Pillow image of mode ``L`` or ``RGB`` (0 to 255) or ``F`` (grey in [0, 1], for more than 8
    bits), or an array (C, H, W) float32 in [0, 1], or raises UnreadableError. ``path`` is the image's own file, if it
    has one.
    """

    name: str
    label: int | None
    read: Callable[[], Image.Image | NDArray[np.float32]]
    path: Path | None = None


@dataclass(frozen=True)
class Batch:
    """A batch: ``images`` (N, C, H, W) float32 in [0, 1]; ``labels`` (N,) int64 or None; ``indices`` into the set."""

    images: Tensor
    labels: Tensor | None
    indices: tuple[int, ...]
