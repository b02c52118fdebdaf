"""The picture that carries a report's answer, small enough to stand beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from probe.core.blocks import Figure, Gallery, SteppedGallery, Strip
from probe.core.document import Report
from probe.report.charts.draw import has_marks

_STRIPS, _PICTURES, _SIDE = 3, 4, 88


@dataclass(frozen=True)
class Key:
    """A chart, or the first pictures of a gallery; ``section`` and ``block`` say where the whole of it stands."""

    section: int
    block: int
    content: Figure | Gallery


def find_key(report: Report) -> Key | None:
    """Return the first chart or gallery of the first section in ``report.key`` that has one; None without any."""
    places = {section.id: place for place, section in reversed(list(enumerate(report.sections)))}
    for place in (places[name] for name in report.key if name in places):
        for number, block in enumerate(report.sections[place].blocks):
            if isinstance(block, Figure) and has_marks(block):
                return Key(place, number, block)
            if isinstance(block, Gallery | SteppedGallery) and (strips := first_strips(block)):
                return Key(place, number, Gallery(block.title, strips, "", min(_SIDE, block.size)))
    return None


def first_strips(block: Gallery | SteppedGallery) -> tuple[Strip, ...]:
    """Return the beginnings of a gallery's first strips, without notes and links; slides as they are first seen."""
    every = block.strips if isinstance(block, Gallery) else [row[block.start] for row in block.rows if row]
    strips = [strip for strip in every if strip.pictures][:_STRIPS]
    return tuple(
        Strip(tuple(replace(picture, anchor="") for picture in strip.pictures[:_PICTURES]), strip.label)
        for strip in strips
    )
