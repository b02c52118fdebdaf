"""The types of the data layer: a model's input, an image before it is read, and a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from probe.core.errors import ProbeError, UsageError

Interpolation = Literal["nearest", "bilinear", "bicubic"]

Aspect = Literal["keep", "squash", "pad"]
"""How an image of another shape is resized: until it covers the box, to exactly the box, or until it fits inside."""


@dataclass(frozen=True)
class InputSpec:
    """A model's input: (channels, height, width), and how a photograph is resized and cropped to it.

    An image is resized to the ``box`` and the centre of it is cropped. ``crop`` in (0, 1] is the input's share of the
    box (torchvision's 256 → 224 is 0.875), unless ``resize`` (height, width) gives the box. ``aspect``: 'keep' resizes
    until the image covers the box, 'squash' to exactly the box, 'pad' until it fits inside, with ``fill`` (0 to 255,
    one value per channel) around it. With ``as_is``, an image that has exactly the input's size is neither resized nor
    cropped. Framed images are resized to the input without a crop, unless ``asked`` says that the user chose resize
    or crop. Sizes below 1, a crop outside (0, 1], a box smaller than the input and unknown names raise UsageError.
    """

    size: tuple[int, int, int] = (3, 224, 224)
    crop: float = 0.875
    interpolation: Interpolation = "bilinear"
    aspect: Aspect = "keep"
    resize: tuple[int, int] | None = None
    as_is: bool = False
    asked: bool = False
    fill: tuple[int, ...] = ()

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
        if self.resize is not None and (self.resize[0] < self.size[1] or self.resize[1] < self.size[2]):
            raise UsageError(
                f"Images cannot be resized to {self.resize[0]}×{self.resize[1]} and then cropped to the network's "
                f"{self.size[1]}×{self.size[2]}: resize to at least that."
            )

    @property
    def box(self) -> tuple[int, int]:
        """The (height, width) that an image is resized to before the centre crop."""
        if self.resize is not None:
            return self.resize
        # The slack undoes the rounding of 224 / (224 / 232); timm rounds down, and torchvision's boxes are whole.
        return int(self.size[1] / self.crop + 1e-6), int(self.size[2] / self.crop + 1e-6)

    def resized(self, size: tuple[int, int]) -> InputSpec:
        """Return the spec for another height and width, with the same share of the box."""
        return replace(self, size=(self.size[0], *size), resize=self.resize if self.asked else None)


class UnreadableError(ProbeError):
    """An image cannot be used; the message is the reason in the report."""


@dataclass(frozen=True)
class Item:
    """An image before it is read: its name, its label, and a function that reads it.

    ``read`` returns a Pillow image of mode ``L`` or ``RGB`` (0 to 255) or ``F`` (grey in [0, 1], for more than 8
    bits), or an array (C, H, W) float32 in [0, 1], or raises UnreadableError. ``path`` is the image's own file, if it
    has one, ``published`` its place and label in a data set that is one array (the label stays where classes
    are numbered anew).
    """

    name: str
    label: int | None
    read: Callable[[], Image.Image | NDArray[np.float32]]
    path: Path | None = None
    published: tuple[int, int] | None = None


@dataclass(frozen=True)
class Batch:
    """A batch: ``images`` (N, C, H, W) float32 in [0, 1]; ``labels`` (N,) int64 or None; ``indices`` into the set."""

    images: Tensor
    labels: Tensor | None
    indices: tuple[int, ...]
