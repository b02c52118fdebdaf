"""What line, bar and scatter charts share: the rectangle of the axes, ticks, names, rows of values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from probe.core.document import Axis, Figure, Series
from probe.report.charts.scales import Scale
from probe.report.charts.svg import fitted, short, tag, text_width
from probe.report.text import number, visible

FONT = 12.0
COLOURS = 7
"""Series beyond this many repeat a colour with another dash and marker."""

Row = tuple[float, float, float, float]
"""x, y, and the ends of the interval (y itself where there is none)."""


@dataclass(frozen=True)
class Drawing:
    """Marks and the size of the canvas they were drawn for, in CSS pixels."""

    marks: Markup
    width: float
    height: float


@dataclass(frozen=True)
class Area:
    """The rectangle inside the axes."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class TickNames:
    """How the names along x are written: turned or not, every how many, and the room they take below."""

    turned: bool
    every: int
    limit: float
    room: float
    length: float = 0.0


def x_names(axis: Axis, length: float) -> TickNames:
    """Decide how the names along x are written, given how many pixels there are for them."""
    if not axis.categories:
        return TickNames(False, 1, 80, 22)
    slot = length / len(axis.categories)
    widest = max(text_width(visible(name), FONT) for name in axis.categories)
    if widest <= slot - 6:
        return TickNames(False, 1, slot, 22)
    length = min(widest, 110.0)
    return TickNames(True, max(1, -(-16 // int(max(slot, 1)))), 110, length * 0.64 + 16, length)


def label_room(scale: Scale, width: float) -> float:
    """Return the width to keep free for the labels of the vertical axis."""
    widest = max((text_width(label, FONT) for _, label in scale.ticks), default=0.0)
    return min(widest, 0.34 * width) + 12


def extent(figure: Figure) -> Iterator[float]:
    """Yield every value that the vertical axis must hold."""
    for series in figure.series:
        yield from series.y
        yield from series.low
        yield from series.high


def horizontal_grid(ys: Scale, area: Area) -> Markup:
    """Draw the vertical axis: a line across and a label for each tick."""
    lines = []
    for value, label in ys.ticks:
        y = ys(value)
        kind = "zero" if value == 0 and ys.low < 0 else "grid"
        lines.append(tag("line", x1=area.left, x2=area.right, y1=y, y2=y, class_=kind))
        text = fitted(label, area.left - 8, FONT)
        lines.append(tag("text", text, x=area.left - 8, y=y + 4, text_anchor="end"))
    return tag("g", *lines, class_="axis")


def x_axis(figure: Figure, xs: Scale, area: Area, names: TickNames, height: float) -> Markup:
    """Draw the horizontal axis with its ticks, names and label."""
    parts = [tag("line", x1=area.left, x2=area.right, y1=area.bottom, y2=area.bottom, class_="base")]
    for index, (value, label) in enumerate(xs.ticks):
        if index % names.every or not xs.low <= value <= xs.high:
            continue
        x, y = xs(value), area.bottom
        parts.append(tag("line", x1=x, x2=x, y1=y, y2=y + 4, class_="base"))
        text = fitted(label, names.limit, FONT)
        if names.turned:
            place = f"translate({short(x + 4)} {short(y + 14)}) rotate(-40)"
            parts.append(tag("text", text, transform=place, text_anchor="end"))
        else:
            parts.append(tag("text", text, x=x, y=y + 18, text_anchor="middle"))
    label = fitted(f"{figure.x.label} →", area.right, FONT)
    parts.append(tag("text", label, x=area.right, y=height - 6, text_anchor="end", class_="label"))
    return tag("g", *parts, class_="axis")


def caption(label: str, width: float) -> Markup:
    """Draw the label of the vertical axis, above it, so that nobody has to turn their head."""
    return tag("text", fitted(label, width - 4, FONT), x=1, y=13, class_="label")


def rows_of(series: Series) -> list[Row]:
    """Return x, y, low, high for each point; without an interval low and high are y."""
    low, high = series.low or series.y, series.high or series.y
    return [
        (float(a), float(b), float(c), float(d))
        for a, b, c, d in zip(series.x, series.y, low, high, strict=True)
    ]


def told(figure: Figure, series: Series, row: Row) -> str:
    """The sentence shown at one point."""
    x, y, low, high = row
    place = f"{figure.x.label}: {_named(figure.x, x)}"
    value = f"{series.label or figure.y.label}: {number(y, 4, trim=True)}"
    return (
        f"{value} ({number(low, 4, trim=True)} to {number(high, 4, trim=True)})\n{place}"
        if low != high
        else f"{value}\n{place}"
    )


def _named(axis: Axis, value: float) -> str:
    if axis.categories and value.is_integer() and 0 <= value < len(axis.categories):
        return axis.categories[int(value)]
    return number(value, 4, trim=True)
