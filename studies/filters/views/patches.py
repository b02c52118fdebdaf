"""What excites a channel most: the nine strongest image regions, and what in them did it."""

from __future__ import annotations

from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.core.progress import Advance
from probe.core.report import Block, Gallery, Note, Picture, Section, Strip
from probe.graph.field import ReceptiveField, receptive_fields
from studies.filters.backproject import Rule, Unit, backproject, box_of
from studies.filters.observe import LayerObservation
from studies.filters.pictures import Pixels, centred, thumbnail
from studies.filters.workspace import VIEWS, Workspace

RULES: tuple[tuple[Rule, str], ...] = (("deconvnet", "deconvnet"), ("guided", "guided backprop"))
SIDE = 96


@VIEWS.register("patches")
def patches(space: Workspace) -> Section:
    """Show the image regions that excite each channel most, cropped to the exact receptive field."""
    units = {layer: _units(space, layer) for layer in space.layers}
    fields, refusal = _fields(space)
    blocks: list[Block] = [Note(refusal)] if refusal else []
    with space.progress.task("Patches", sum(map(len, units.values()))) as advance:
        for layer in space.layers:
            blocks += _layer(space, layer, units[layer], fields.get(layer), advance)
    summary = (
        f"For each channel the regions of {space.observed.n} images with its strongest responses, one per image "
        "at most. Under each: the deconvnet picture (Zeiler & Fergus 2013: the signal goes back through the "
        "recorded max-pool positions and only positive signal passes a ReLU) and the guided-backprop picture "
        "(Springenberg 2014) of the same unit."
    )
    return Section("patches", "Strongest patches", summary, tuple(blocks))


def strongest(seen: LayerObservation, channel: int) -> list[Unit]:
    """Return the channel's strongest units, at most nine, one per image, strongest first."""
    columns = (seen.images, seen.rows, seen.cols, seen.values)
    return [
        Unit(channel, int(image), int(row), int(col), float(value))
        for image, row, col, value in zip(*(part[:, channel].tolist() for part in columns), strict=True)
        if image >= 0
    ]


def _units(space: Workspace, layer: str) -> list[Unit]:
    seen = space.observed.layers[layer]
    return [unit for channel in space.channels[layer] for unit in strongest(seen, channel)]


def _fields(space: Workspace) -> tuple[dict[str, ReceptiveField], str]:
    names = [f"network.{layer}" for layer in space.layers]
    try:
        fields = receptive_fields(space.model.module, names, space.example)
    except NotApplicableError as error:
        return {}, f"The receptive fields cannot be computed, so whole images are shown. {error}"
    return {layer: fields[name] for layer, name in zip(space.layers, names, strict=True)}, ""


def _layer(
    space: Workspace, layer: str, units: list[Unit], field: ReceptiveField | None, advance: Advance
) -> list[Block]:
    notes = [f"{layer}: {field.note}"] if field is not None and field.note else []
    try:
        signals = backproject(space, layer, units, field, advance)
    except NotApplicableError as error:
        signals = {}
        notes.append(f"{layer}: deconvnet and guided backprop do not apply. {error}")
        advance(len(units))
    strips: list[Strip] = []
    for channel in space.channels[layer]:
        strips += _strips(space, layer, channel, [u for u in units if u.channel == channel], field, signals)
    return [_gallery(layer, tuple(strips), field), *map(Note, notes)]


def _strips(
    space: Workspace,
    layer: str,
    channel: int,
    units: list[Unit],
    field: ReceptiveField | None,
    signals: dict[tuple[Rule, Unit], Tensor],
) -> list[Strip]:
    boxes = [box_of(space, unit, field) for unit in units]
    anchor = f"{layer}/ch{channel}"
    crops = tuple(
        Picture(
            _crop(space.images.get(unit.image, space.model.input), box),
            f"Region of {space.images.item_name(unit.image)} that excites channel {channel} of {layer}",
            f"{unit.value:.3g}",
            pixelated=_small(box),
        )
        for unit, box in zip(units, boxes, strict=True)
    )
    strips = [Strip(crops, label=f"channel {channel}", note="patches", anchor=f"{anchor}/patches")]
    for rule, name in RULES:
        pictures = tuple(
            Picture(
                thumbnail(centred(signals[rule, unit]), SIDE),
                f"{name} of that unit",
                pixelated=_small(box),
            )
            for unit, box in zip(units, boxes, strict=True)
            if (rule, unit) in signals
        )
        if pictures:
            strips.append(Strip(pictures, note=name))
    return strips


def _small(box: tuple[int, int, int, int]) -> bool:
    return max(box[2] - box[0], box[3] - box[1]) <= SIDE // 3


def _crop(image: Tensor, box: tuple[int, int, int, int]) -> Pixels:
    top, left, bottom, right = box
    return thumbnail(image[:, top:bottom, left:right], SIDE)


def _gallery(layer: str, strips: tuple[Strip, ...], field: ReceptiveField | None) -> Gallery:
    if field is None:
        size = "whole images"
    else:
        height, width = field.size
        size = f"receptive field {height}×{width} px, a new one every {field.jump[0]:g} px"
    reading = (
        f"{layer} ({size}; cut where it leaves the image). The number is the activation. Nine regions that share "
        "one thing – an edge, a texture, a part – mean that the channel stands for it; nine that share nothing "
        "mean that it does not stand for one thing alone, or that there are too few images to tell. In the "
        "pictures below them mid-grey is no influence, and what stands out is what made the unit fire."
    )
    return Gallery(f"{layer}: strongest patches", strips, reading, size=72)
