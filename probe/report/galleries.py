"""Galleries and slides as the page shows them: tiles with their ids and sizes, strips, layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from probe.core.blocks import Block, Gallery, Picture, SteppedGallery, Strip
from probe.report import pictures
from probe.report.templating import Anchors

Supply = Iterator[pictures.Encoded | None]
_SIDE_BY_SIDE = 430
_IN_ONE_LINE = 750
_ALL = 970
"""The width of the page beside its contents, in CSS pixels, on a screen of 1280."""


@dataclass(frozen=True)
class Tile:
    """One picture on the page; ``encoded`` is None when it was left out to keep the file small."""

    encoded: pictures.Encoded | None
    alt: str
    caption: str
    id: str
    width: int
    height: int
    pixelated: bool


@dataclass(frozen=True)
class GalleryRow:
    """A strip with its tiles; ``compare`` are the two that can be wiped over each other."""

    label: str
    note: str
    id: str
    tiles: tuple[Tile, ...]
    compare: tuple[int, int] | None = None


@dataclass(frozen=True)
class Layout:
    """How strips stand: ``flow`` is their width when they stand side by side, or 0; ``stacked``: names above."""

    width: int
    flow: int
    stacked: bool


@dataclass(frozen=True)
class GalleryView:
    """A gallery as the template takes it."""

    gallery: Gallery
    layout: Layout
    rows: tuple[GalleryRow, ...]

    @property
    def widths(self) -> set[int]:
        """Every width in CSS pixels that the page needs a class for."""
        return _widths(self.layout, self.rows)


@dataclass(frozen=True)
class SlidesView:
    """Slides as the template takes them: ``reels[i]`` holds a row for each step of image i."""

    slides: SteppedGallery
    layout: Layout
    reels: tuple[tuple[GalleryRow, ...], ...]

    @property
    def widths(self) -> set[int]:
        """Every width in CSS pixels that the page needs a class for."""
        return _widths(self.layout, [row for reel in self.reels for row in reel])


def pictures_of(block: Block) -> Iterator[Picture]:
    """Yield a block's pictures in the order in which ``gallery_view`` and ``slides_view`` take them."""
    if isinstance(block, Gallery | SteppedGallery):
        for strip in _strips(block):
            yield from strip.pictures


def gallery_view(gallery: Gallery, anchors: Anchors, supply: Supply) -> GalleryView:
    """Lay out a gallery; ``supply`` gives its encoded pictures in order."""
    rows = tuple(_row(strip, gallery, anchors, supply) for strip in gallery.strips)
    return GalleryView(gallery, _layout(gallery, len(rows)), rows)


def key_view(gallery: Gallery, anchors: Anchors, supply: Supply) -> GalleryView:
    """Lay out the gallery that stands beside the headline, names above the pictures."""
    view = gallery_view(gallery, anchors, supply)
    return replace(view, layout=Layout(view.layout.width, 0, stacked=True))


def slides_view(slides: SteppedGallery, anchors: Anchors, supply: Supply) -> SlidesView:
    """Lay out slides; ``supply`` gives their encoded pictures row by row, in each row step by step."""
    reels = tuple(tuple(_row(strip, slides, anchors, supply) for strip in row) for row in slides.rows)
    return SlidesView(slides, _layout(slides, len(reels)), reels)


def _strips(block: Gallery | SteppedGallery) -> tuple[Strip, ...]:
    return block.strips if isinstance(block, Gallery) else tuple(s for row in block.rows for s in row)


def _widths(layout: Layout, rows: Sequence[GalleryRow]) -> set[int]:
    return {layout.width, layout.flow} | {tile.width for row in rows for tile in row.tiles}


def _row(strip: Strip, block: Gallery | SteppedGallery, anchors: Anchors, supply: Supply) -> GalleryRow:
    own = anchors.take(strip.anchor) if strip.anchor else ""
    tiles = tuple(_tile(picture, block, anchors, next(supply)) for picture in strip.pictures)
    return GalleryRow(strip.label, strip.note, own, tiles, strip.compare)


def _tile(
    picture: Picture, block: Gallery | SteppedGallery, anchors: Anchors, encoded: pictures.Encoded | None
) -> Tile:
    high, wide = picture.pixels.shape[:2]
    width = _shown_width(block)
    if picture.pixelated and wide <= width:
        width = round(width / wide) * wide  # whole squares
    height = max(1, round(width * high / wide))
    own = anchors.take(picture.anchor) if picture.anchor else ""
    alt = picture.alt or picture.caption or block.title
    return Tile(encoded, alt, picture.caption, own, width, height, picture.pixelated)


def _shown_width(block: Gallery | SteppedGallery) -> int:
    """Return how wide pictures are shown: as asked for, or a little smaller where a row then fits into one line."""
    size = max(16, min(int(block.size), 640))
    fitting = _ALL // max(_longest(block), 1) - 10
    return fitting if 0.75 * size <= fitting < size else size


def _longest(block: Gallery | SteppedGallery) -> int:
    return max((len(strip.pictures) + bool(strip.compare) for strip in _strips(block)), default=0)


def _layout(block: Gallery | SteppedGallery, count: int) -> Layout:
    """Put strips side by side where they are short; names above where pictures would not fit beside them."""
    width = _longest(block) * (block.size + 10)
    flow = width if count > 1 and width <= _SIDE_BY_SIDE else 0
    return Layout(_shown_width(block), flow, width > _IN_ONE_LINE)
