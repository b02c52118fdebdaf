"""The words of the data layer: what a model is fed, one image before it is read, one batch."""

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
    """What a model wants to be fed: (channels, height, width), and how a photograph becomes that.

    ``crop`` in (0, 1] is the part of the resized shorter side that the centre crop keeps (torchvision's
    256 → 224 is 0.875); images that are already framed are resized without a crop. Sizes below 1, a crop
    outside (0, 1] and an unknown interpolation raise UsageError.
    """

    size: tuple[int, int, int] = (3, 224, 224)
    crop: float = 0.875
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Refuse sizes and crops that have no meaning."""
        if len(self.size) != 3 or min(self.size) < 1:
            raise UsageError(f"An input size is (channels, height, width), each at least 1; got {self.size}.")
        if not 0 < self.crop <= 1:
            raise UsageError(f"The crop is a part of the shorter side in (0, 1]; got {self.crop}.")
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise UsageError(f"There is no interpolation '{self.interpolation}'. Known: {known}.")


class UnreadableError(ProbeError):
    """One image cannot be used; the message is the reason that the report gives."""


@dataclass(frozen=True)
class Item:
    """One image before it is read: its name, its label, and how to read it.

    ``read`` returns a Pillow image of mode ``L`` or ``RGB`` (0 to 255) or ``F`` (grey in [0, 1], for data finer than 8
    bits), or an array (C, H, W) float32 in [0, 1], or raises UnreadableError. ``path`` is the file of its own that it
    is read from, if any.
    """

    name: str
    label: int | None
    read: Callable[[], Image.Image | NDArray[np.float32]]
    path: Path | None = None


@dataclass(frozen=True)
class Batch:
    """``images`` (N, C, H, W) float32 in [0, 1]; ``labels`` (N,) int64 or None; ``indices`` into the set."""

    images: Tensor
    labels: Tensor | None
    indices: tuple[int, ...]
