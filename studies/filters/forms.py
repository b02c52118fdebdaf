"""Forms to show beside gratings: bars, corners, curves, dots and checks, bright on grey and dark on grey."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

SCALES = (1 / 16, 1 / 8, 1 / 4)
"""Radii of forms as parts of the image's shorter side."""

_GREY = 0.5
Inside = Callable[[Tensor, Tensor], Tensor]
"""Distances down and across from the middle, turned and in units of the radius → whether a pixel is inside."""

_WIDTH = 0.25
"""Half of the width of a line, in units of the radius."""


def _bar(down: Tensor, across: Tensor) -> Tensor:
    return (down.abs() <= _WIDTH) & (across.abs() <= 1)


def _corner(down: Tensor, across: Tensor) -> Tensor:
    lying = (down.abs() <= _WIDTH) & (across >= -_WIDTH) & (across <= 1)
    standing = (across.abs() <= _WIDTH) & (down >= -_WIDTH) & (down <= 1)
    return lying | standing


def _curve(down: Tensor, across: Tensor) -> Tensor:
    """A half circle whose top is in the middle."""
    return ((torch.hypot(down - 1, across) - 1).abs() <= _WIDTH) & (down <= 1)


def _dot(down: Tensor, across: Tensor) -> Tensor:
    return torch.hypot(down, across) <= 1


def _checks(down: Tensor, across: Tensor) -> Tensor:
    return (torch.floor(down + 0.5) + torch.floor(across + 0.5)) % 2 == 0


KINDS: dict[str, tuple[Inside, int, float]] = {
    "bar": (_bar, 8, 180.0),
    "corner": (_corner, 8, 360.0),
    "curve": (_curve, 8, 360.0),
    "dot": (_dot, 1, 360.0),
    "checks": (_checks, 4, 90.0),
}
"""Kind → what is inside, how many turns are shown, and after how many degrees it looks the same."""


def form(size: tuple[int, int, int], kind: str, scale: float, angle: float, bright: bool) -> Tensor:
    """Return an image (C, H, W) of a form around the middle, turned by ``angle`` degrees, on grey."""
    channels, height, width = size
    radius = max(scale * min(height, width), 1.0)
    rows = ((torch.arange(height, dtype=torch.float64) - height // 2) / radius)[:, None]
    columns = ((torch.arange(width, dtype=torch.float64) - width // 2) / radius)[None]
    turn = math.radians(angle)
    down = rows * math.cos(turn) + columns * math.sin(turn)
    across = columns * math.cos(turn) - rows * math.sin(turn)
    inside = KINDS[kind][0](down, across)
    drawn = torch.full((height, width), _GREY).masked_fill(inside, 1.0 if bright else 0.0)
    return drawn.expand(channels, height, width).contiguous()


def forms(size: tuple[int, int, int]) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yield the kind of every form and what draws it."""
    for kind, (_, turns, period) in KINDS.items():
        for scale in SCALES:
            for turn in range(turns):
                for bright in (True, False):
                    yield kind, partial(form, size, kind, scale, turn * period / turns, bright)
