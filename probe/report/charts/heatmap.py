"""Heat maps: a matrix as coloured cells with a key."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from probe.core.document import Axis, Figure
from probe.report.charts.axes import FONT, Area, Drawing
from probe.report.charts.scales import drawable
from probe.report.charts.svg import fitted, join, short, tag, text_width
from probe.report.text import number, visible

_CELLS_DRAWN = 900
"""A matrix with more cells becomes a picture, and its values are in the table only."""

Colours = Callable[[NDArray[np.float64]], NDArray[np.uint8]]


def draw(figure: Figure, width: float, identifier: str) -> Drawing | None:
    """Draw the matrix, first row on top; None when it has no value that can be drawn.

    Values of both signs get a diverging map with zero in its middle, others a sequential one.
    """
    values = _matrix(figure)
    if not np.isfinite(values).any():
        return None
    rows, columns = values.shape
    left = _name_room(figure.y, rows, width)
    side = min((width - left - 14) / columns, 46.0)
    if _turned(figure.x, columns, side):
        left = max(left, 0.77 * _turned_length(figure.x) - side / 2 + 4)
        side = min((width - left - 14) / columns, 46.0)
    high = max(min(side, 34.0), 3.0 if rows > 60 else 14.0)
    names = _x_room(figure.x, columns, side)
    area = Area(left, 52, left + side * columns, 52 + high * rows)
    height = area.bottom + names + 26
    colours, low, top = _colours(values)
    cells = (
        _cells(figure, values, colours, area)
        if values.size <= _CELLS_DRAWN
        else _image(values, colours, area)
    )
    marks = (
        _key(figure, colours, low, top, width, identifier),
        cells,
        _row_names(figure.y, rows, area),
        _column_names(figure.x, columns, area),
        tag("text", fitted(f"↓ {figure.y.label}", width - 4, FONT), x=1, y=44, class_="label"),
        tag(
            "text",
            fitted(f"{figure.x.label} →", width - 4, FONT),
            x=max(area.right, min(text_width(figure.x.label, FONT) + 20, width - 4)),
            y=height - 6,
            text_anchor="end",
            class_="label",
        ),
    )
    return Drawing(join(*marks), width, height)


def _matrix(figure: Figure) -> NDArray[np.float64]:
    """Return the rows as one array, short rows filled with not-a-number."""
    columns = max(map(len, figure.matrix), default=0)
    values = np.full((len(figure.matrix), columns), np.nan)
    for index, row in enumerate(figure.matrix):
        values[index, : len(row)] = [value if drawable(value) else np.nan for value in row]
    return values


def _colours(values: NDArray[np.float64]) -> tuple[Colours, float, float]:
    from matplotlib import colormaps

    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    signed = low < 0 < high
    if signed:
        low, high = -max(-low, high), max(-low, high)
    cmap = colormaps["RdBu_r" if signed else "viridis"]
    span = high - low or 1.0

    def colours(data: NDArray[np.float64]) -> NDArray[np.uint8]:
        filled = np.nan_to_num((data - low) / span, nan=0.0)
        return np.asarray(cmap(filled, bytes=True))[..., :3]

    return colours, low, high


def _name_room(axis: Axis, rows: int, width: float) -> float:
    names = axis.categories[:rows] or (str(rows),)
    return min(max(text_width(visible(name), FONT) for name in names), 0.36 * width) + 12


def _turned(axis: Axis, columns: int, side: float) -> bool:
    return any(text_width(visible(name), FONT) > side - 4 for name in axis.categories[:columns])


def _x_room(axis: Axis, columns: int, side: float) -> float:
    if not _turned(axis, columns, side):
        return 22
    return _turned_length(axis) * 0.64 + 16


def _turned_length(axis: Axis) -> float:
    return min(max(text_width(visible(name), FONT) for name in axis.categories), 110.0)


def _cells(figure: Figure, values: NDArray[np.float64], colours: Colours, area: Area) -> Markup:
    rows, columns = values.shape
    w, h = (area.right - area.left) / columns, (area.bottom - area.top) / rows
    paint = colours(values)
    digits = 2
    written = w >= 30 and h >= 14 and values.size <= 400
    parts = []
    for r in range(rows):
        for c in range(columns):
            x, y, value = area.left + c * w, area.top + r * h, float(values[r, c])
            told = tag("title", f"{number(value, 4, trim=True)}\n{_name(figure.y, r)}, {_name(figure.x, c)}")
            box = {"x": x, "y": y, "width": w, "height": h}
            if np.isnan(value):
                parts.append(tag("rect", told, class_="missing", **box))
                continue
            red, green, blue = (int(part) for part in paint[r, c])
            fill = f"#{red:02x}{green:02x}{blue:02x}"
            parts.append(tag("rect", told, fill=fill, shape_rendering="crispEdges", **box))
            if written and text_width(number(value, digits), 11) <= w - 2:
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140
                parts.append(
                    tag(
                        "text",
                        number(value, digits),
                        x=x + w / 2,
                        y=y + h / 2 + 4,
                        text_anchor="middle",
                        font_size=11,
                        class_="in-cell",
                        fill="#ffffff" if dark else "#000000",
                    )
                )
    return tag("g", *parts)


def _image(values: NDArray[np.float64], colours: Colours, area: Area) -> Markup:
    from PIL import Image

    paint = np.dstack([colours(values), np.where(np.isnan(values), 0, 255).astype(np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(paint).save(buffer, "PNG", optimize=True)
    return tag(
        "image",
        href=f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}",
        x=area.left,
        y=area.top,
        width=area.right - area.left,
        height=area.bottom - area.top,
        preserveAspectRatio="none",
        image_rendering="pixelated",
    )


def _name(axis: Axis, index: int) -> str:
    return axis.categories[index] if index < len(axis.categories) else str(index)


def _row_names(axis: Axis, rows: int, area: Area) -> Markup:
    h = (area.bottom - area.top) / rows
    every = max(1, -(-14 // max(int(h), 1)))
    texts = (
        tag(
            "text",
            fitted(_name(axis, r), area.left - 10, FONT),
            x=area.left - 7,
            y=area.top + (r + 0.5) * h + 4,
            text_anchor="end",
        )
        for r in range(0, rows, every)
    )
    return tag("g", *texts, class_="axis")


def _column_names(axis: Axis, columns: int, area: Area) -> Markup:
    w = (area.right - area.left) / columns
    turned = _turned(axis, columns, w)
    need = 16 if turned else max(text_width(str(columns), FONT) + 8, 16 if not axis.categories else 0)
    every = max(1, int(-(-need // max(w, 0.1))))
    texts = []
    for c in range(0, columns, every):
        x, y = area.left + (c + 0.5) * w, area.bottom
        name = fitted(_name(axis, c), 110 if turned else max(w, need), FONT)
        if turned:
            place = f"translate({short(x + 4)} {short(y + 14)}) rotate(-40)"
            texts.append(tag("text", name, transform=place, text_anchor="end"))
        else:
            texts.append(tag("text", name, x=x, y=y + 16, text_anchor="middle"))
    return tag("g", *texts, class_="axis")


def _key(figure: Figure, colours: Colours, low: float, high: float, width: float, identifier: str) -> Markup:
    """Draw the colour key: what the value is, its lowest and its highest colour."""
    ramp = colours(np.linspace(low, high, 9))
    stops = (
        tag("stop", offset=f"{100 * i / 8:g}%", stop_color="#" + bytes(colour.tolist()).hex())
        for i, colour in enumerate(ramp)
    )
    label = fitted(figure.value_label or "value", 0.4 * width, FONT)
    start = 1.15 * text_width(label, FONT) + 10  # the label is bold
    first, last = number(low, 3, trim=True), number(high, 3, trim=True)
    bar = start + text_width(first, FONT) + 6
    long = min(140.0, width - bar - text_width(last, FONT) - 10)
    return tag(
        "g",
        tag("linearGradient", *stops, id=f"{identifier}-ramp"),
        tag("text", label, x=1, y=14, class_="label"),
        tag("text", first, x=start, y=14),
        tag("rect", x=bar, y=4, width=max(long, 20), height=12, rx=2, fill=f"url(#{identifier}-ramp)"),
        tag("text", last, x=bar + max(long, 20) + 6, y=14),
        class_="axis",
    )
