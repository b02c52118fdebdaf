"""The channels that the attack moves most: their pictures beside what they are worth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from probe.core.report import (
    Block,
    Cell,
    Column,
    Gallery,
    Note,
    Picture,
    Report,
    Section,
    Strip,
    Table,
    finite,
)
from probe.dossier.measure import IMPORTANCE, MOVEMENT, ROBUST_IMPORTANCE, Attacked, Channels

SIDE = 112
_KINDS = (("", "most"), ("/least", "least"), ("/unit", "one unit"))
"""Endings of the anchors of the features view, and what they show."""


def most_moved(layer: Channels, most: int) -> tuple[int, ...]:
    """Return the channels that the attack moves most, the most moved first; equal ones by number."""
    order = np.argsort(-layer.measures[MOVEMENT], kind="stable")
    return tuple(layer.channels[place] for place in order[:most])


def channels_section(layer: Channels, seen: Attacked, filters: Report, pictured: int, where: str) -> Section:
    """Return the gallery of the most moved channels and the table of all."""
    name, shown = layer.chosen.name, most_moved(layer, pictured)
    pictures = {picture.anchor: picture for picture in _pictures(filters)}
    strips = tuple(_strip(layer, channel, pictures) for channel in shown)
    blocks: list[Block] = []
    if any(strip.pictures for strip in strips):
        blocks.append(
            Gallery(
                f"{name}: the {len(shown)} channels that the attack moves most",
                strips,
                "Made by optimisation: what drives the channel up, what drives it down, and what its middle unit "
                "wants. Beside it, how far the attack moves the channel and what silencing it costs, with the rank "
                f"among the {len(layer.channels)} measured.",
                size=SIDE,
            )
        )
    else:
        numbers = ",".join(map(str, sorted(shown)))
        blocks.append(
            Note(
                "There are no feature pictures here: they are made for the first layer that is measured, where that "
                f"can be done. To see others: probe filters --layers {layer.chosen.answers} --channels {numbers}"
            )
        )
    blocks.append(_table(layer))
    blocks.append(
        Note(
            "All pictures of these channels, with values and strongest patches:",
            links=(("the filters report", where),),
        )
    )
    return Section(
        f"channels-{name}",
        f"Channels of {name}",
        _summary(layer, seen),
        tuple(blocks),
        findings=_findings(layer),
    )


def _pictures(report: Report) -> Iterator[Picture]:
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Gallery):
                yield from (picture for strip in block.strips for picture in strip.pictures)


def _strip(layer: Channels, channel: int, pictures: dict[str, Picture]) -> Strip:
    found = []
    for ending, words in _KINDS:
        picture = pictures.get(f"{layer.chosen.answers}/ch{channel}{ending}")
        if picture is not None:
            found.append(Picture(picture.pixels, picture.alt, words, pixelated=picture.pixelated))
    place = layer.channels.index(channel)

    def told(measure: str, form: str = "+.2g") -> str:
        values = layer.measures[measure]
        rank = int((values > values[place]).sum()) + 1
        return f"{format(values[place], form)} (rank {rank})".replace("-", "−")

    note = (
        f"moved {told(MOVEMENT, '.1%')} of its length; silenced, the loss changes by {told(IMPORTANCE)} nats on "
        f"clean and {told(ROBUST_IMPORTANCE)} on attacked images"
    )
    return Strip(
        tuple(found), label=f"Channel {channel}", note=note, anchor=f"{layer.chosen.name}/ch{channel}"
    )


def _table(layer: Channels) -> Table:
    others = [name for name in layer.measures if name not in (IMPORTANCE, ROBUST_IMPORTANCE, MOVEMENT)]
    rows: list[tuple[Cell, ...]] = []
    for place in np.argsort(-layer.measures[MOVEMENT], kind="stable"):
        loss = layer.losses[place]
        rows.append(
            (
                layer.chosen.name,
                layer.channels[place],
                float(layer.measures[MOVEMENT][place]),
                finite(loss.clean.loss_change),
                finite(loss.attacked.loss_change),
                loss.clean.changed,
                loss.attacked.changed,
                *(finite(float(layer.measures[name][place])) for name in others),
            )
        )
    columns = (
        Column("Layer"),
        Column("Channel"),
        Column(
            "Moved",
            proportion=True,
            help="L2 change of its map under attack, as a part of the map's length; mean over images.",
        ),
        Column(
            "Loss, clean", unit="nats", help="Rise of the mean cross-entropy when the channel is silenced."
        ),
        Column(
            "Loss, attacked", unit="nats", help="The same on the images of the attack on the intact network."
        ),
        Column("Flips, clean", help="Images whose answer changes when the channel is silenced."),
        Column("Flips, attacked"),
        *(Column(name[:1].upper() + name[1:], help=_HELP[name]) for name in others),
    )
    return Table(
        f"{layer.chosen.name}: every measured channel", columns, tuple(rows), "The most moved first."
    )


_HELP = {
    "filter norm": "Euclidean length of the filter's weights.",
    "likeness to another": "Largest cosine to another filter of the layer; a near-duplicate is above 0.95.",
    "spatial frequency": "Mean frequency of the kernel weighted by power, in cycles a pixel.",
    "mean peak": "Largest activation in an image, mean over images.",
    "spread of peaks": "Its standard deviation over images.",
    "images it fires in": "Images in which the channel is positive anywhere.",
}


def _summary(layer: Channels, seen: Attacked) -> str:
    n, total = len(layer.channels), layer.chosen.total
    which = f"All {total}" if n == total else f"{n} of the {total}, at even distances,"
    return (
        f"{which} channels of {layer.chosen.name} were silenced one at a time, behind their norm and activation, on "
        f"{len(seen.labels)} images, clean and attacked at epsilon {seen.epsilon:.4g}. Movement is measured at "
        f"{layer.chosen.answers}."
    )


def _findings(layer: Channels) -> tuple[str, ...]:
    moved, lesion = layer.measures[MOVEMENT], layer.measures[IMPORTANCE]
    first, dear = int(np.argmax(moved)), int(np.argmax(lesion))
    return (
        f"Of {len(layer.channels)} channels of {layer.chosen.name}, the attack moves channel {layer.channels[first]} "
        f"most ({moved[first]:.1%} of its length); the loss rises most without channel {layer.channels[dear]} "
        f"(by {lesion[dear]:.2g} nats).",
    )
