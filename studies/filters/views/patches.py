"""Strongest patches: the nine image regions that excite a channel most, and which of their pixels do."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.core.blocks import Block, Gallery, Note, Picture, Strip
from probe.core.document import Section
from probe.core.errors import NotApplicableError
from probe.core.progress import Advance
from probe.graph.receptive_field.field import ReceptiveField, receptive_fields
from probe.report.raster import centred, framed, magnified, stacked
from studies.filters.backproject import RULES, Box, Rule, UnitLocation, backproject, box_of
from studies.filters.observe import LayerObservation
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

SIDE = 88


@VIEWS.register("patches", order=3, passes=(480, 0))
def patches(space: FiltersWorkspace) -> Section:
    """Show the image regions that excite each channel most, cropped to the exact receptive field."""
    units = {layer: _units(space, layer) for layer in space.layers}
    fields, refusal = _fields(space)
    blocks: list[Block] = [Note(refusal)] if refusal else []
    with space.progress.task("Patches", sum(map(len, units.values()))) as advance:
        parts = [(layer, units[layer], fields.get(layer)) for layer in space.layers]
        work = [len(units[layer]) for layer in space.layers]
        for made in space.spread(_layer, parts, advance, work, reads_images=True):
            blocks += made
    summary = (
        f"For each channel the regions of {space.observed.n} images with its strongest responses, one per image "
        "at most. Every tile is one unit, three times: the region; the deconvnet picture (Zeiler & Fergus 2013: "
        "the signal is sent back through the recorded max-pool positions, and only positive signal passes a "
        "ReLU); the guided-backprop picture (Springenberg 2014), which also blocks the signal where the input of "
        "the ReLU was negative."
    )
    return Section("patches", "Strongest patches", summary, tuple(blocks))


def patches_anchor(layer: str, channel: int) -> str:
    """Return the anchor of the strip of a channel's patches."""
    return f"{layer}/ch{channel}/patches"


def strongest(observed: LayerObservation, channel: int) -> list[UnitLocation]:
    """Return the channel's strongest units, at most nine, one per image, strongest first.

    Only positive units count as excited; a channel without any shows its largest unit.
    """
    columns = (observed.images, observed.rows, observed.cols, observed.values)
    units = [
        UnitLocation(channel, int(image), int(row), int(col), float(value))
        for image, row, col, value in zip(*(part[:, channel].tolist() for part in columns), strict=True)
        if image >= 0
    ]
    return [unit for unit in units if unit.value > 0] or units[:1]


def _units(space: FiltersWorkspace, layer: str) -> list[UnitLocation]:
    observed = space.observed.layers[layer]
    return [unit for channel in space.channels[layer] for unit in strongest(observed, channel)]


def _fields(space: FiltersWorkspace) -> tuple[dict[str, ReceptiveField], str]:
    names = [f"network.{layer}" for layer in space.layers]
    try:
        fields = receptive_fields(space.model.module, names, space.example)
    except NotApplicableError as error:
        return {}, f"The receptive fields cannot be computed, so whole images are shown. {error}"
    return {layer: fields[name] for layer, name in zip(space.layers, names, strict=True)}, ""


def _layer(
    space: FiltersWorkspace,
    part: tuple[str, list[UnitLocation], ReceptiveField | None],
    advance: Advance,
) -> list[Block]:
    layer, units, field = part
    notes = [f"{layer}: {field.note}"] if field is not None and field.note else []
    readable = set(space.images.readable(dict.fromkeys(unit.image for unit in units), space.model.input))
    gone = list(dict.fromkeys(unit.image for unit in units if unit.image not in readable))
    if gone:
        units = [unit for unit in units if unit.image in readable]
        names = ", ".join(map(space.images.item_name, gone[:3])) + (" …" if len(gone) > 3 else "")
        notes.append(
            f"{layer}: {len(gone)} images could be read before and not any more ({names}); their patches are missing."
        )
    try:
        signals = backproject(space, layer, units, field, advance)
    except NotApplicableError as error:
        signals = {}
        notes.append(f"{layer}: deconvnet and guided backprop do not apply. {error}")
        advance(len(units))
    strips = tuple(
        Strip(
            tuple(_tile(space, layer, unit, field, signals) for unit in units if unit.channel == channel),
            label=f"channel {channel}",
            anchor=patches_anchor(layer, channel),
        )
        for channel in space.channels[layer]
    )
    return [_gallery(layer, strips, field), *map(Note, notes)]


def _tile(
    space: FiltersWorkspace,
    layer: str,
    unit: UnitLocation,
    field: ReceptiveField | None,
    signals: dict[tuple[Rule, UnitLocation], Tensor],
) -> Picture:
    """Stack the region and, where they apply, the signals of both rules in it."""
    box, frame = box_of(space, unit, field), _frame(space, unit, field)
    image = space.image(unit.image)
    parts = [framed(image, box, frame)]
    for rule in RULES:
        if (rule, unit) in signals:
            top, left, bottom, right = box
            signal = torch.zeros_like(image)
            signal[:, top:bottom, left:right] = centred(signals[rule, unit][:, top:bottom, left:right])
            parts.append(framed(signal, box, frame))
    name = space.images.item_name(unit.image)
    also = ", with its deconvnet and guided-backprop pictures" if len(parts) > 1 else ""
    return Picture(
        stacked([magnified(part, SIDE) for part in parts]),
        f"Region of {name} that excites channel {unit.channel} of {layer} to {unit.value:.3g}{also}",
        f"{unit.value:.3g}",
    )


def _frame(space: FiltersWorkspace, unit: UnitLocation, field: ReceptiveField | None) -> Box:
    """Return the rectangle of a tile: of equal size for every unit of the layer, inside or around the image."""
    _, height, width = space.model.input.size
    if field is None:
        return 0, 0, height, width
    top, left, bottom, right = field.open_box(unit.row, unit.col)
    rows = (top, bottom) if field.size[0] <= height else (0, height)
    cols = (left, right) if field.size[1] <= width else (0, width)
    return rows[0], cols[0], rows[1], cols[1]


def _gallery(layer: str, strips: tuple[Strip, ...], field: ReceptiveField | None) -> Gallery:
    if field is None:
        size = "whole images"
    else:
        height, width = field.size
        size = f"receptive field {height}×{width} px, stride {field.jump[0]:g} px"
    reading = (
        f"{layer} ({size}; grey where it leaves the image). From top to bottom: region, deconvnet, guided "
        "backprop; the number is the activation. Nine regions that share a property – an edge, a texture, a part "
        "– suggest that the channel detects it; nine regions without one suggest that it detects several things, "
        "or that there are too few images. In the lower two rows mid-grey: nothing of the signal came "
        "back to this pixel."
    )
    return Gallery(f"{layer}: strongest patches", strips, reading, size=SIDE)
