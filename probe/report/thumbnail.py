"""A small picture of a report for the index: its first pictures, photographs before filters, or its first chart."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw, ImageOps, features

from probe.core.document import Figure, Gallery, Picture, Report, SteppedGallery, Strip
from probe.report.charts.scales import Reach, Scale, drawable, scale_for

THUMBNAIL = "thumbnail.webp"
SIZE = (146, 96)
_COLUMNS, _ROWS, _GAP = 3, 2, 2
_HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito 2008; each stands out from light and from dark paper."""
_FINE = 4
"""Charts are drawn this many times as large and then shrunk, which smooths their lines."""


def thumbnail(report: Report) -> bytes | None:
    """Return the picture as WebP of at most ``SIZE`` pixels; None where there is nothing to show."""
    if not features.check("webp"):
        return None
    blocks = [block for section in report.sections for block in section.blocks]
    galleries = [list(_first(block)) for block in blocks if isinstance(block, Gallery | SteppedGallery)]
    galleries.sort(key=lambda shown: (not shown, any(picture.pixelated for picture in shown)))
    if galleries and galleries[0]:
        return _coded(_sheet(galleries[0]))
    for block in blocks:
        if isinstance(block, Figure) and (drawn := _chart(block)):
            return _coded(drawn)
    return None


def _coded(image: Image.Image) -> bytes:
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
    each = _COLUMNS if len(strips) >= _ROWS else _COLUMNS * _ROWS
    yield from (picture for strip in strips[:_ROWS] for picture in islice(strip.pictures, each))


def _sheet(pictures: Sequence[Picture]) -> Image.Image:
    """Put squares side by side, with nothing between them."""
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
    """Draw the lines, bars or points of a chart without any words; None where it has none."""
    values = [(x, y) for series in figure.series for x, y in zip(series.x, series.y, strict=True)]
    if figure.kind == "heatmap" or not any(drawable(x) and drawable(y) for x, y in values):
        return None
    width, height = SIZE[0] * _FINE, SIZE[1] * _FINE
    edge = 8.0 * _FINE
    xs = scale_for((x for x, _ in values), figure.x, edge, width - edge, spacing=width, reach="tight")
    reach: Reach = "zero" if figure.kind == "bar" else "round"
    ys = scale_for((y for _, y in values), figure.y, height - edge, edge, spacing=height, reach=reach)
    image = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(image)
    draw.line([(edge, height - edge), (width - edge, height - edge)], "#80868c", _FINE)
    for index, series in enumerate(figure.series[:8]):
        pairs = zip(series.x, series.y, strict=True)
        shown = sorted((float(x), float(y)) for x, y in pairs if xs.shows(x) and ys.shows(y))
        points = [(xs(x), ys(y)) for x, y in shown]
        _marks(draw, figure, points, index, xs, height - edge)
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def _marks(
    draw: ImageDraw.ImageDraw,
    figure: Figure,
    points: list[tuple[float, float]],
    index: int,
    xs: Scale,
    foot: float,
) -> None:
    hue = _HUES[index % len(_HUES)]
    if figure.kind == "line":
        draw.line(points, hue, 2 * _FINE, joint="curve")
        return
    slot = (xs.end - xs.start) / max(len(figure.x.categories) or len(points), 1)
    half = 1.8 * _FINE if figure.kind == "scatter" else max(0.36 * slot / len(figure.series), 1.0)
    for x, y in points:
        if figure.kind == "scatter":
            draw.ellipse([x - half, y - half, x + half, y + half], hue)
            continue
        middle = x + (2 * index - len(figure.series) + 1) * half
        top, bottom = sorted((math.floor(y), math.ceil(foot)))
        draw.rectangle([middle - half, top, middle + half, bottom], hue)
