"""A small picture of a report for the index: what carries its answer, or its first pictures, or its first chart."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from PIL import Image, ImageOps, features

from probe.core.blocks import Figure, Gallery, Picture, SteppedGallery, Strip
from probe.core.document import Report
from probe.report.charts.draw import draw, has_marks, quiet
from probe.report.key import find_key

THUMBNAIL = "thumbnail.webp"
SIZE = (146, 96)
_COLUMNS, _ROWS, _GAP = 3, 2, 2


def thumbnail(report: Report) -> bytes | None:
    """Return the picture as WebP of at most ``SIZE`` pixels; None where there is nothing to show."""
    if not features.check("webp"):
        return None
    key = find_key(report)
    blocks = [block for section in report.sections for block in section.blocks]
    galleries = [block for block in blocks if isinstance(block, Gallery | SteppedGallery)]
    galleries.sort(key=lambda block: any(picture.pixelated for picture in _first(block)))
    charts = [block for block in blocks if isinstance(block, Figure)]
    for block in (*([key.content] if key else []), *galleries, *charts):
        image = _chart(block) if isinstance(block, Figure) else _sheet(list(_first(block)))
        if image:
            return _encode(image)
    return None


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70, method=5)
    return buffer.getvalue()


def _first(block: Gallery | SteppedGallery) -> Iterator[Picture]:
    """Yield the pictures to show: a row of each of the first strips, or two rows of one."""
    if isinstance(block, SteppedGallery):
        every: Sequence[Strip] = [row[block.start] for row in block.rows if row]
    else:
        every = block.strips
    strips = [strip for strip in every if strip.pictures]
    per_strip = _COLUMNS if len(strips) >= _ROWS else _COLUMNS * _ROWS
    yield from (picture for strip in strips[:_ROWS] for picture in islice(strip.pictures, per_strip))


def _sheet(pictures: Sequence[Picture]) -> Image.Image | None:
    """Put squares side by side, with nothing between them; None where there are none."""
    if not pictures:
        return None
    columns = min(_COLUMNS, len(pictures))
    side = (SIZE[0] - _GAP * (_COLUMNS - 1)) // _COLUMNS
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGBA", (columns * (side + _GAP) - _GAP, rows * (side + _GAP) - _GAP))
    for place, picture in enumerate(pictures):
        how = Image.Resampling.NEAREST if picture.pixelated else Image.Resampling.LANCZOS
        image = Image.fromarray(np.ascontiguousarray(picture.pixels)).convert("RGB")
        square = ImageOps.fit(image, (side, side), how)
        sheet.paste(square, (place % columns * (side + _GAP), place // columns * (side + _GAP)))
    return sheet


def _chart(figure: Figure) -> Image.Image | None:
    """Draw a chart without any words; None where it has nothing to show."""
    if not has_marks(figure):
        return None
    with quiet(0.4):
        canvas = draw(figure, SIZE[0] / 72, 4.8)
        canvas.set_size_inches(SIZE[0] / 72, SIZE[1] / 72)
        canvas.patch.set_visible(False)
        for legend in canvas.legends:
            legend.remove()
        for axes in canvas.axes:
            axes.set_axis_off()
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png")
    return Image.open(buffer)
