"""Images that are made, not downloaded: textures of one kind each, and scenes of shapes with a mask for each concept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Field = Callable[[Array, Array, np.random.Generator], Array]
"""Rows and columns in units of the texture's period, and random numbers → brightness in [0, 1]."""


def _stripes(rows: Array, columns: Array, rng: np.random.Generator) -> Array:
    angle = rng.uniform(0, math.pi)
    return ((rows * math.cos(angle) + columns * math.sin(angle)) % 1 < 0.5).astype(float)


def _checks(rows: Array, columns: Array, rng: np.random.Generator) -> Array:
    return ((np.floor(2 * rows) + np.floor(2 * columns)) % 2).astype(float)


def _dots(rows: Array, columns: Array, rng: np.random.Generator) -> Array:
    return (np.hypot(rows % 1 - 0.5, columns % 1 - 0.5) < rng.uniform(0.25, 0.35)).astype(float)


def _zigzags(rows: Array, columns: Array, rng: np.random.Generator) -> Array:
    return ((rows + np.abs(columns % 2 - 1)) % 1 < 0.5).astype(float)


TEXTURES: Mapping[str, Field] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "zigzags": _zigzags,
}

COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.85, 0.1, 0.1),
    "green": (0.1, 0.7, 0.15),
    "blue": (0.1, 0.2, 0.85),
    "yellow": (0.9, 0.85, 0.1),
}
_NOISE = 0.05
"""Without noise many positions would be equally large, and no threshold could choose among them."""

SHAPES = ("disc", "square", "triangle", "ring")


def texture(kind: str, size: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return an image (C, H, W) in [0, 1] of one texture in two random greys or colours, 4 to 10 periods to the image."""
    channels, height, width = size
    period = min(height, width) / rng.uniform(4, 10)
    rows, columns = np.mgrid[0:height, 0:width] / period + rng.uniform(0, 2, 2)[:, None, None]
    field = TEXTURES[kind](rows, columns, rng)
    dark, bright = rng.uniform(0, 0.4, channels), rng.uniform(0.6, 1, channels)
    drawn = dark[:, None, None] + field * (bright - dark)[:, None, None]
    return drawn.astype(np.float32)


def scene(
    size: tuple[int, int, int], rng: np.random.Generator
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
    """Return an image (C, H, W) in [0, 1] and concept → mask (H, W): one to three shapes before grey, and noise.

    With three channels each shape has a colour, which is a concept too; the masks of concepts that are not there are left out.
    """
    channels, height, width = size
    image = np.full((channels, height, width), 0.5)
    masks: dict[str, NDArray[np.bool_]] = {}
    for _ in range(rng.integers(1, 4)):
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
        inside = _drawn(str(shape), height, width, rng)
        paint = (
            np.array(COLOURS[str(colour)]) if channels == 3 else np.full(channels, rng.choice([0.05, 0.95]))
        )
        image = np.where(inside, rng.uniform(0.8, 1) * paint[:, None, None], image)
        for name in masks:  # what is drawn later hides what was there
            masks[name] &= ~inside
        for name in (str(shape), str(colour)) if channels == 3 else (str(shape),):
            masks[name] = masks.get(name, np.zeros((height, width), bool)) | inside
    image = np.clip(image + _NOISE * rng.standard_normal(image.shape), 0, 1)
    return image.astype(np.float32), {name: mask for name, mask in masks.items() if mask.any()}


def _drawn(shape: str, height: int, width: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the inside of a shape with a radius of a tenth to a quarter of the image, anywhere."""
    radius = rng.uniform(0.1, 0.25) * min(height, width)
    middle = rng.uniform(0.2, 0.8, 2) * (height, width)
    rows, columns = np.mgrid[0:height, 0:width]
    down, across = (rows - middle[0]) / radius, (columns - middle[1]) / radius
    far = np.hypot(down, across)
    inside: dict[str, NDArray[np.bool_]] = {
        "disc": far < 1,
        "ring": (far < 1) & (far > 0.6),
        "square": np.maximum(abs(down), abs(across)) < 0.85,
        "triangle": (down < 0.8) & (down > -1) & (abs(across) < (down + 1) / 1.8),
    }
    return inside[shape]
