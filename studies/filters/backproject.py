"""Deconvnet and guided-backprop pictures of many units, each computed on its receptive field only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from probe.core.progress import Advance
from probe.graph.edit.fold import folded_graph
from probe.graph.edit.rewrite import modular
from probe.graph.edit.truncate import truncate
from probe.graph.receptive_field.field import ReceptiveField
from studies.filters.attribution.attribute import unit_backprop
from studies.filters.attribution.subject import guidable
from studies.filters.workspace import FiltersWorkspace

Rule = Literal["deconvnet", "guided"]
RULES: tuple[Rule, ...] = ("deconvnet", "guided")
Box = tuple[int, int, int, int]

_WORTHWHILE = 0.6  # windows of this part of the image, or larger, are not used
_TOLERANCE = 1e-3
_AT_ONCE = 8  # the activations of a whole batch are kept for the way back


@dataclass(frozen=True)
class UnitLocation:
    """The strongest unit of a channel in one image: its position and activation."""

    channel: int
    image: int
    row: int
    col: int
    value: float


@dataclass(frozen=True)
class InputWindow:
    """A part of the image, (height, width) pixels, that holds the receptive field of any unit of a layer.

    Windows begin at multiples of the layer's ``jump``, so that every stride falls on the same pixels as in the
    whole image, and lie inside the image, so that padding is where it was. Then a unit computed from its window has
    the value it has in the whole image.
    """

    size: tuple[int, int]
    image: tuple[int, int]
    jump: tuple[int, int]

    @classmethod
    def of(cls, field: ReceptiveField) -> InputWindow | None:
        """Return the smallest window for a layer, or None when the whole image is as good."""
        if field.note or any(step != int(step) or step < 1 for step in field.jump):
            return None
        jump = int(field.jump[0]), int(field.jump[1])
        sides = [
            min(length, -(-(extent + step) // step) * step)
            for extent, step, length in zip(field.size, jump, field.image, strict=True)
        ]
        # The last window ends at the image's edge; it must begin at a multiple of the jump as well.
        if any((length - side) % step for length, side, step in zip(field.image, sides, jump, strict=True)):
            return None
        if sides[0] * sides[1] > _WORTHWHILE * field.image[0] * field.image[1]:
            return None
        return cls((sides[0], sides[1]), field.image, jump)

    def corner(self, box: Box) -> tuple[int, int]:
        """Return (top, left) of the window that holds a receptive field."""
        starts = (
            min(begin // step * step, length - side)
            for begin, step, length, side in zip(box[:2], self.jump, self.image, self.size, strict=True)
        )
        top, left = starts
        return top, left


def backproject(
    space: FiltersWorkspace,
    layer: str,
    units: Sequence[UnitLocation],
    field: ReceptiveField | None,
    advance: Advance,
) -> dict[tuple[Rule, UnitLocation], Tensor]:
    """Return for every unit and rule the signal (C, H, W) in the image; 0 outside the unit's receptive field.

    Raises NotApplicableError when the rules are not defined for the network's activations or it cannot be
    rewritten.
    """
    # Before the activation: a saturated ReLU6 would send no signal back, and above 0 a ReLU sends the same.
    cut = truncate(space.model.module, f"network.{layer}", space.example, before_activation=True)
    network = guidable(folded_graph(modular(cut, space.example)))
    window = InputWindow.of(field) if field is not None else None
    if window is not None and not _agrees(space, cut, units[:4], window, field):
        window = None
    signals: dict[tuple[Rule, UnitLocation], Tensor] = {}
    for some in _groups(units, min(space.config.batch_size, _AT_ONCE)):
        signals.update(_batch(space, network, some, window, field))
        advance(len(some))
    return signals


def box_of(space: FiltersWorkspace, unit: UnitLocation, field: ReceptiveField | None) -> Box:
    """Return the unit's receptive field inside the image; the whole image where it is not known."""
    _, height, width = space.model.input.size
    return (0, 0, height, width) if field is None else field.box(unit.row, unit.col)


def _groups(units: Sequence[UnitLocation], size: int) -> Iterator[Sequence[UnitLocation]]:
    for start in range(0, len(units), size):
        yield units[start : start + size]


def _batch(
    space: FiltersWorkspace,
    network: nn.Module,
    units: Sequence[UnitLocation],
    window: InputWindow | None,
    field: ReceptiveField | None,
) -> dict[tuple[Rule, UnitLocation], Tensor]:
    images, rows, cols, corners = _inputs(space, units, window, field)
    channels = [unit.channel for unit in units]
    signals: dict[tuple[Rule, UnitLocation], Tensor] = {}
    for rule in RULES:
        maps = unit_backprop(network, images, channels, rows, cols, rule).float().cpu()
        for unit, signal, (y, x) in zip(units, maps, corners, strict=True):
            top, left, bottom, right = box_of(space, unit, field)
            canvas = torch.zeros(space.model.input.size)
            canvas[:, top:bottom, left:right] = signal[:, top - y : bottom - y, left - x : right - x]
            signals[rule, unit] = canvas
    return signals


def _inputs(
    space: FiltersWorkspace,
    units: Sequence[UnitLocation],
    window: InputWindow | None,
    field: ReceptiveField | None,
) -> tuple[Tensor, list[int], list[int], list[tuple[int, int]]]:
    """Return the images or their windows, and where each unit is in them."""
    images = space.pixels(tuple(unit.image for unit in units))
    if window is None or field is None:
        return images, [u.row for u in units], [u.col for u in units], [(0, 0)] * len(units)
    corners = [window.corner(field.box(unit.row, unit.col)) for unit in units]
    height, width = window.size
    parts = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(images, corners, strict=True)]
    rows = [unit.row - y // window.jump[0] for unit, (y, _) in zip(units, corners, strict=True)]
    cols = [unit.col - x // window.jump[1] for unit, (_, x) in zip(units, corners, strict=True)]
    return torch.stack(parts).contiguous(memory_format=space.model.memory_format), rows, cols, corners


def _agrees(
    space: FiltersWorkspace,
    cut: nn.Module,
    units: Sequence[UnitLocation],
    window: InputWindow,
    field: ReceptiveField | None,
) -> bool:
    """Tell whether units computed from their windows have the values that they have in the whole images."""
    channels = [unit.channel for unit in units]
    values: list[Tensor] = []
    for part in (None, window):
        images, rows, cols, _ = _inputs(space, units, part, field)
        try:
            with torch.inference_mode():
                maps = cut(images).float().cpu()
        except RuntimeError:  # the network insists on its input size
            return False
        if max(rows) >= maps.shape[2] or max(cols) >= maps.shape[3]:
            return False
        values.append(maps[range(len(units)), channels, rows, cols])
    return bool(((values[0] - values[1]).abs() <= _TOLERANCE * values[0].abs().clamp_min(1)).all())
