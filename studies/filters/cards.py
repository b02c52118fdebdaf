"""Cards: what the views found out about one channel side by side: its optimised picture, its tuning and its nine patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.core.blocks import Block, Figure, Gallery, Picture, Series, Strip
from probe.core.document import Section
from studies.filters.views.features import picture_anchor
from studies.filters.views.patches import patches_anchor
from studies.filters.views.stimuli import orientation_title

SIDE = 88

_READING = (
    "One row a channel, from left to right: the picture that excites it most, made by optimisation; its responses to gratings, farther "
    "from the centre where stronger, at the angle of the stripes; its strongest patches, each with its activation and, below, what "
    "in it did it. Where the three say the same, the channel is likely to answer to it; where they do not, one of them misleads."
)


_OF = ("patches", "features", "stimuli")


def with_cards(sections: Sequence[Section], channels: Mapping[str, Sequence[int]]) -> tuple[Section, ...]:
    """Return the sections, before those of single channels one with a card for each whose tuning and pictures there are."""
    blocks: list[Block] = []
    for layer, chosen in channels.items():
        strips = []
        for channel in chosen:
            pictures = card(sections, layer, channel)
            if len(pictures) > 1 and _tuning(sections, layer, channel) is not None:
                strips.append(Strip(pictures, label=f"channel {channel}", anchor=f"{layer}/ch{channel}"))
        if strips:
            blocks.append(Gallery(f"{layer}: one card a channel", tuple(strips), _READING, size=SIDE))
    if not blocks:
        return tuple(sections)
    cards = Section(
        "cards", "Channels", "What the sections below show of each channel, together.", tuple(blocks)
    )
    place = next(number for number, section in enumerate(sections) if section.id in _OF)
    return (*sections[:place], cards, *sections[place:])


def card(sections: Sequence[Section], layer: str, channel: int) -> tuple[Picture, ...]:
    """Return the pictures of one channel in a report's sections, those that there are: optimised, tuning, patches."""
    pictures: list[Picture] = []
    wanted = picture_anchor(layer, channel), patches_anchor(layer, channel)
    for strip in _strips(sections, "features"):
        pictures += [
            _plain(picture, "optimised") for picture in strip.pictures if picture.anchor == wanted[0]
        ]
    tuning = _tuning(sections, layer, channel)
    if tuning is not None:
        alt = f"Responses of channel {channel} of {layer} to gratings by orientation"
        pictures.append(Picture(tuning_picture(tuning), alt, "tuning"))
    for strip in _strips(sections, "patches"):
        if strip.anchor == wanted[1]:
            pictures += strip.pictures
    return tuple(pictures)


def _plain(picture: Picture, caption: str) -> Picture:
    return Picture(picture.pixels, picture.alt, caption, pixelated=picture.pixelated)


def _strips(sections: Sequence[Section], name: str) -> Iterator[Strip]:
    for section in sections:
        for block in section.blocks if section.id == name else ():
            if isinstance(block, Gallery):
                yield from block.strips


def _tuning(sections: Sequence[Section], layer: str, channel: int) -> Series | None:
    for section in sections:
        for block in section.blocks if section.id == "stimuli" else ():
            if isinstance(block, Figure) and block.title == orientation_title(layer):
                return next((series for series in block.series if series.label == f"ch {channel}"), None)
    return None


_PIXELS, _FINER, _FULL = 112, 4, 0.94
"""Side of a tuning picture; how much finer it is drawn before it is averaged; where in it the strongest response lies."""
_GROUND, _RING, _SHAPE = (250, 250, 250), (205, 211, 217), (19, 103, 170)


def tuning_picture(curve: Series) -> NDArray[np.uint8]:
    """Draw a tuning curve around a centre, (112, 112, 3): angles in degrees, counterclockwise from the right."""
    side = _PIXELS * _FINER
    middle = (side - 1) / 2
    rows, columns = np.mgrid[:side, :side]
    distance = np.hypot(rows - middle, columns - middle) / (_FULL * middle)
    angle = np.degrees(np.arctan2(middle - rows, columns - middle))
    values = np.maximum(curve.y, 0)
    reach = np.interp(angle, curve.x, values / max(values.max(), np.finfo(float).tiny), period=360)
    canvas = np.empty((side, side, 3))
    canvas[:] = _GROUND
    canvas[abs(distance - 1) < _FINER / side] = _RING
    canvas[distance <= reach] = _SHAPE
    fine = canvas.reshape(_PIXELS, _FINER, _PIXELS, _FINER, 3)
    picture: NDArray[np.uint8] = fine.mean((1, 3)).round().astype(np.uint8)
    return picture
