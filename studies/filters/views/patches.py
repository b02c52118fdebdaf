"""What excites a channel most: the nine strongest image regions, and what in them did it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.core.progress import Advance
from probe.core.report import Block, Gallery, Note, Picture, Section, Strip
from probe.graph.field import ReceptiveField, receptive_field
from probe.graph.rewrite import modular
from probe.graph.upto import upto
from studies.filters.attribute import unit_backprop
from studies.filters.observe import LayerObservation
from studies.filters.pictures import Pixels, centred, thumbnail
from studies.filters.workspace import VIEWS, Workspace

Rule = Literal["deconvnet", "guided"]
RULES: tuple[tuple[Rule, str], ...] = (("deconvnet", "deconvnet"), ("guided", "guided backprop"))
SIDE = 96


@dataclass(frozen=True)
class Unit:
    """One unit of a channel at its strongest in one image: where it is and how strong."""

    channel: int
    image: int
    row: int
    col: int
    value: float


@VIEWS.register("patches")
def patches(space: Workspace) -> Section:
    """Show the image regions that excite each channel most, cropped to the exact receptive field."""
    blocks: list[Block] = []
    total = sum(len(space.channels[layer]) for layer in space.layers)
    with space.progress.task("Patches", total) as advance:
        for layer in space.layers:
            blocks += _layer(space, layer, advance)
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


def _layer(space: Workspace, layer: str, advance: Advance) -> list[Block]:
    units = {channel: strongest(space.observed.layers[layer], channel) for channel in space.channels[layer]}
    field, note = _field(space, layer)
    signals, refusal = _signals(space, layer, [unit for row in units.values() for unit in row])
    strips: list[Strip] = []
    for channel, row in units.items():
        strips += _strips(space, layer, channel, row, field, signals)
        advance(1)
    blocks: list[Block] = [_gallery(space, layer, tuple(strips), field)]
    return blocks + [Note(text) for text in (note, refusal) if text]


def _field(space: Workspace, layer: str) -> tuple[ReceptiveField | None, str]:
    try:
        field = receptive_field(space.model.module, f"network.{layer}", space.example)
    except NotApplicableError as error:
        return None, f"{layer}: the receptive field cannot be computed, so whole images are shown. {error}"
    return field, f"{layer}: {field.note}" if field.note else ""


def _signals(space: Workspace, layer: str, units: list[Unit]) -> tuple[dict[tuple[Rule, Unit], Tensor], str]:
    """Trace every unit back to the pixels by both rules; the reason instead when they do not apply."""
    found: dict[tuple[Rule, Unit], Tensor] = {}
    try:
        cut = upto(space.model.module, f"network.{layer}", space.example)
        rewritten = modular(cut, space.example)
        for start in range(0, len(units), space.config.batch_size):
            some = units[start : start + space.config.batch_size]
            images = space.pixels(tuple(unit.image for unit in some))
            channels, rows, cols = zip(*((unit.channel, unit.row, unit.col) for unit in some), strict=True)
            for rule, _ in RULES:
                maps = unit_backprop(rewritten, images, channels, rows, cols, rule).float().cpu()
                found.update({(rule, unit): one for unit, one in zip(some, maps, strict=True)})
    except NotApplicableError as error:
        return {}, f"{layer}: deconvnet and guided backprop do not apply. {error}"
    return found, ""


def _strips(
    space: Workspace,
    layer: str,
    channel: int,
    units: list[Unit],
    field: ReceptiveField | None,
    signals: dict[tuple[Rule, Unit], Tensor],
) -> list[Strip]:
    boxes = [_box(space, unit, field) for unit in units]
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
                _crop(centred(signals[rule, unit]), box),
                f"{name} of that unit",
                pixelated=_small(box),
            )
            for unit, box in zip(units, boxes, strict=True)
            if (rule, unit) in signals
        )
        if pictures:
            strips.append(Strip(pictures, note=name))
    return strips


def _box(space: Workspace, unit: Unit, field: ReceptiveField | None) -> tuple[int, int, int, int]:
    _, height, width = space.model.input.size
    return (0, 0, height, width) if field is None else field.box(unit.row, unit.col)


def _small(box: tuple[int, int, int, int]) -> bool:
    return max(box[2] - box[0], box[3] - box[1]) <= SIDE // 3


def _crop(image: Tensor, box: tuple[int, int, int, int]) -> Pixels:
    top, left, bottom, right = box
    return thumbnail(image[:, top:bottom, left:right], SIDE)


def _gallery(
    space: Workspace, layer: str, strips: tuple[Strip, ...], field: ReceptiveField | None
) -> Gallery:
    if field is None:
        size = "whole images"
    else:
        height, width = field.size
        size = f"receptive field {height}×{width} px, one step every {field.jump[0]} px"
    reading = (
        f"{layer} ({size}; cut where it leaves the image). The number is the activation. Nine regions that share "
        "one thing – an edge, a texture, a part – mean that the channel stands for it; nine that share nothing "
        "mean that it does not stand for one thing alone, or that there are too few images to tell. In the "
        "pictures below them mid-grey is no influence, and what stands out is what made the unit fire."
    )
    return Gallery(f"{layer}: strongest patches", strips, reading, size=72)
