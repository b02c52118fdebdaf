"""Sequences of items that are built when they are asked for, and names that are safe to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.data.spec import Item


class LazyItems(Sequence[Item]):
    """``count`` items; ``make(i)`` builds the i-th each time it is asked for and none is kept."""

    def __init__(self, count: int, make: Callable[[int], Item]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        positions = range(self._count)
        if isinstance(index, slice):
            return subset(self, positions[index])
        try:
            position = positions[index]
        except IndexError:
            raise IndexError(f"there is no image {index} among {self._count}") from None
        return self._make(position)


def subset(items: Sequence[Item], indices: Sequence[int]) -> LazyItems:
    """Return the items at ``indices``, in that order."""
    return LazyItems(len(indices), lambda i: items[indices[i]])


def array_items(
    pixels: NDArray[np.generic], labels: NDArray[np.int64], names: Callable[[int], str]
) -> LazyItems:
    """Return items over images held in memory, with one label each.

    ``pixels`` is uint8 (N, H, W) or (N, H, W, 3), or float32 (N, H, W) grey in [0, 1]; the array is kept, not
    copied. ``names(i)`` is the name of the i-th image.
    """

    def make(i: int) -> Item:
        return Item(names(i), int(labels[i]), lambda: Image.fromarray(pixels[i]))

    return LazyItems(len(pixels), make)


def shown(name: str) -> str:
    """Return a file name fit for a report or a terminal: what cannot be printed is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
