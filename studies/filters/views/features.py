"""Feature visualisation: pictures optimised from noise for one channel, unit or class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.core.blocks import Block, Column, Gallery, Note, Picture, Strip, Table
from probe.core.document import Section, finite
from probe.core.errors import NotApplicableError
from probe.core.pixels import to_uint8
from probe.core.progress import Advance
from studies.filters.optima import rendered
from studies.filters.optimise import (
    Channel,
    Class,
    Objective,
    PictureRecipe,
    PictureSubject,
    Transforms,
    UnitObjective,
)
from studies.filters.optimise.report import OptimisedValue, checks, findings, results, table
from studies.filters.optimise.subjects import (
    LayerSubject,
    class_subject,
    layer_subject,
    traced_model,
)
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

CLASSES = 3
SIDE = 112


@dataclass(frozen=True)
class _Part:
    """The blocks that one layer, or the classes, adds to the section; ``refused``: only why there are no pictures."""

    blocks: tuple[Block, ...]
    reached: tuple[OptimisedValue, ...] = ()
    refused: bool = False


@VIEWS.register("features", order=4, passes=(1700, 0))
def features(space: FiltersWorkspace) -> Section:
    """Make the pictures that excite each channel most, by optimisation from noise."""
    pictures = [3 * len(space.channels[layer]) * space.config.steps for layer in space.layers]
    work = [*pictures, len(_classes(space)) * _class_steps(space)]
    with space.progress.task("Features", sum(work)) as advance:
        # None stands for the classes.
        parts = space.spread(_part, [*space.layers, None], advance, work)
    space.forget()
    parts.sort(key=lambda part: not part.refused)
    reached = tuple(value for part in parts for value in part.reached)
    blocks = [*random_note(space), *(block for part in parts for block in part.blocks)]
    if reached:
        blocks.append(table(reached, space.observed.n))
    return Section(
        "features",
        "Feature visualisation",
        _summary(space),
        tuple(blocks),
        results=results(reached),
        checks=checks(reached),
        findings=findings(reached),
    )


def picture_anchor(layer: str, channel: int) -> str:
    """Return the anchor of the picture that excites a channel most."""
    return f"{layer}/ch{channel}"


def _part(space: FiltersWorkspace, layer: str | None, advance: Advance) -> _Part:
    """Make the pictures of a layer, or of the classes; a layer that cannot be cut becomes a note."""
    traced = space.once("traced", lambda: traced_model(space.model, space.example))
    if layer is None:
        return _class_part(space, class_subject(space.model, traced), _classes(space), advance)
    try:
        return _layer(space, layer, layer_subject(space.model, traced, layer, space.example), advance)
    except NotApplicableError as error:
        advance(3 * len(space.channels[layer]) * space.config.steps)
        return _Part((Note(f"{layer}: no pictures. {error}"),), refused=True)


def _layer(space: FiltersWorkspace, layer: str, cut: LayerSubject, advance: Advance) -> _Part:
    channels = space.channels[layer]
    units: list[Objective] = [UnitObjective(c) for c in channels]
    objectives = [*(Channel(c) for c in channels), *(Channel(c, -1) for c in channels), *units]
    free = Transforms.for_size(cut.size)
    # A shift by a whole step of the map would move the pattern on to the neighbouring unit.
    still = free.within(cut.stride)
    transforms = (free,) * (2 * len(channels)) + (still,) * len(channels)
    recipe = PictureRecipe(space.config.steps, transforms=transforms)
    pictures = rendered(space, cut.subject, objectives, cut.size, advance, recipe).pictures
    most, least, middle = torch.split(pictures, len(channels))
    high = [float(m.max()) for m in _own_maps(space, cut.output, most, channels)]
    low = [float(m.min()) for m in _own_maps(space, cut.subject.features, least, channels)]
    unit = [float(m.max()) for m in _own_maps(space, cut.output, middle, channels)]
    reached = tuple(
        OptimisedValue(layer, channel, whole, unit_value, space.best[layer][channel])
        for channel, whole, unit_value in zip(channels, high, unit, strict=True)
    )
    strips = (
        _strip("most", f"excites channel {{}} of {layer} most", most, channels, high, layer, ""),
        _strip("least", f"suppresses channel {{}} of {layer} most", least, channels, low, layer, "/least"),
        _strip(
            "one unit",
            f"excites the middle unit of channel {{}} of {layer}",
            middle,
            channels,
            unit,
            layer,
            "/unit",
        ),
    )
    height, width = cut.size
    reading = (
        f"{width}×{height} px. First row: the channel's mean over its map is raised by gradient ascent, as far as these "
        "steps go; the number is the largest activation in the picture. Second row: lowered; the number is the lowest "
        "value before the activation. Third row: the one unit in the middle of the map, which depends on its receptive "
        "field only. A texture or part that appears repeatedly drives the channel up in the first row and down in the "
        "second; that the channel responds to the same thing in photographs is shown only by their patches."
    )
    return _Part((Gallery(f"{layer}: optimised pictures", strips, reading, size=SIDE),), reached)


def _maps(space: FiltersWorkspace, module: nn.Module, pictures: Tensor) -> Tensor:
    """Return the maps (N, C, h, w) of pictures, float32, without transformations."""
    with torch.inference_mode():
        batches = torch.split(pictures, space.config.batch_size)
        maps = [module(b.to(space.model.device, memory_format=space.model.memory_format)) for b in batches]
    return torch.cat([part.float().cpu() for part in maps])


def _own_maps(
    space: FiltersWorkspace, module: nn.Module, pictures: Tensor, channels: Sequence[int]
) -> list[Tensor]:
    """Return the map (h, w) of the channel that each picture was made for."""
    maps = _maps(space, module, pictures)
    return [channel_map[channel] for channel_map, channel in zip(maps, channels, strict=True)]


def _strip(
    label: str,
    alt: str,
    pictures: Tensor,
    channels: Sequence[int],
    values: Sequence[float],
    layer: str,
    suffix: str,
) -> Strip:
    return Strip(
        tuple(
            Picture(
                to_uint8(picture),
                f"Optimised picture that {alt.format(channel)}; value {value:.3g}",
                f"ch {channel} · {value:.3g}",
                anchor=picture_anchor(layer, channel) + suffix,
            )
            for picture, channel, value in zip(pictures, channels, values, strict=True)
        ),
        label=label,
    )


def _classes(space: FiltersWorkspace) -> tuple[int, ...]:
    """The first few classes that the network predicts for the shown images."""
    observed = space.observed
    predicted = [int(observed.predictions[observed.position(index)]) for index in space.shown]
    return tuple(dict.fromkeys(predicted))[:CLASSES]


def _class_steps(space: FiltersWorkspace) -> int:
    """Half the steps: the logit then exceeds that of any image, and these pictures cost the most."""
    return -(-space.config.steps // 2)


def _class_part(
    space: FiltersWorkspace, subject: PictureSubject, classes: tuple[int, ...], advance: Advance
) -> _Part:
    _, height, width = space.model.input.size
    recipe = PictureRecipe(_class_steps(space))
    rendering = rendered(
        space, subject, [Class(index) for index in classes], (height, width), advance, recipe
    )
    shares = _maps(space, subject.features, rendering.pictures).softmax(1)
    natural = _maps(space, subject.features, space.pixels(space.shown))
    rows = []
    pictures = []
    for row, (index, value) in enumerate(zip(classes, rendering.values.tolist(), strict=True)):
        name = space.class_name(index)
        share, best = float(shares[row, index]), float(natural[:, index].max())
        rows.append((name, finite(value), finite(share), finite(best)))
        pictures.append(
            Picture(
                to_uint8(rendering.pictures[row]),
                f"Optimised picture for the class {name}; logit {value:.3g}",
                f"{name} · {value:.3g}",
                anchor=f"class/{index}",
            )
        )
    reading = (
        "Pictures whose logit for one class (the number) was raised by gradient ascent, at the network's own input size "
        f"and with {_class_steps(space)} steps; the classes are those that the network predicts for the images "
        "shown. They show what raises this logit, often repeated parts; photographs may raise it in other ways."
    )
    gallery = Gallery("Classes: optimised pictures", (Strip(tuple(pictures)),), reading, size=2 * SIDE)
    columns = (
        Column("class", help="The class whose logit was maximised."),
        Column("logit reached", help="Of the optimised picture, without transformations"),
        Column("probability", proportion=True, help="Softmax of the optimised picture"),
        Column(
            "best logit among the images shown",
            help="The highest logit that a natural image gave this class.",
        ),
    )
    return _Part((gallery, Table("Classes: optimised values", columns, tuple(rows))))


def random_note(space: FiltersWorkspace) -> list[Note]:
    """Return the warning that the weights are random, where they are."""
    if not space.model.provenance.weights.startswith("random"):
        return []
    text = "The weights are random: these pictures show what the architecture prefers, not what was learned."
    return [Note(text, "warning")]


def _summary(space: FiltersWorkspace) -> str:
    return (
        f"Pictures made by {space.config.steps} steps of optimisation from noise (Olah et al. 2017): Fourier "
        "coefficients with decorrelated colours, under random shifts, rotations and changes of size. Values are "
        "measured on the final picture in float32 without these transformations."
    )
