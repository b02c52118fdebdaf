"""Random changes to training images that do not change their class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(images, generator) → images of the same shape, with randomness from the generator alone."""

_SHIFT = 1 / 16
_HOLE = 1 / 4


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each of the (N, C, H, W) images by up to a sixteenth of its size; edge pixels are repeated."""
    n, _, height, width = images.shape
    rows = _source_positions(n, height, generator).to(images.device)
    columns = _source_positions(n, width, generator).to(images.device)
    index = torch.arange(n, device=images.device)[:, None, None]
    moved = images[index, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each of the (N, C, H, W) images horizontally with probability one half."""
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a square of a quarter of the side with mid-grey, at a random position that may overlap the border.

    Cutout (DeVries and Taylor 2017).
    """
    n, _, height, width = images.shape
    inside = [
        _within(n, length, max(1, round(length * _HOLE)), generator).to(images.device)
        for length in (height, width)
    ]
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0.5)


AUGMENTATIONS: dict[str, Augment] = {"shift": shift, "flip": flip, "cutout": cutout}
"""The augmentations by the names that users type."""


def augmentation(names: Sequence[str]) -> Augment | None:
    """Return one function that applies the named augmentations in order, None without names.

    Raises ValueError for a name that is not in ``AUGMENTATIONS``.
    """
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(f"no augmentation is called '{unknown[0]}'; known: {', '.join(AUGMENTATIONS)}")
    chosen = [AUGMENTATIONS[name] for name in names]

    def apply(images: Tensor, generator: torch.Generator) -> Tensor:
        for augment in chosen:
            images = augment(images, generator)
        return images

    return apply if chosen else None


def _source_positions(n: int, length: int, generator: torch.Generator) -> Tensor:
    reach = max(1, round(length * _SHIFT))
    offsets = torch.randint(-reach, reach + 1, (n, 1), generator=generator)
    return (torch.arange(length)[None] + offsets).clamp(0, length - 1)


def _within(n: int, length: int, side: int, generator: torch.Generator) -> Tensor:
    start = torch.randint(0, length, (n, 1), generator=generator) - side // 2
    places = torch.arange(length)[None]
    return (places >= start) & (places < start + side)
