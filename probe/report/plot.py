"""The marks of line, bar and scatter charts: axes, interval bands, lines, bars, points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from markupsafe import Markup

from probe.core.report import Axis, Figure, Series
from probe.report.scales import Scale, category_scale, scale_for
from probe.report.svg import fitted, join, path, short, tag, text_width
from probe.report.text import number, visible

FONT = 12.0
COLOURS = 7
_DASHES = (None, "7 3", "2 3", "9 3 2 3")
_POINTS_SHOWN = 600
"""With more points than this a chart shows lines only, and points carry no values of their own."""

Point = tuple[float, float]


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


def draw(figure: Figure, width: float, height: float) -> Drawing | None:
    """Draw a line, bar or scatter chart; None when there is nothing that can be drawn."""
    if not any(True for series in figure.series for _ in zip(series.x, series.y, strict=True)):
        return None
    if figure.kind == "bar" and _needs_rows(figure, width):
        return _bars_in_rows(figure, width)
    ys = scale_for(
        _extent(figure), figure.y, height, 0, spacing=46, reach="zero" if figure.kind == "bar" else "round"
    )
    left = _label_room(ys, width)
    names = _x_names(figure.x, width - left - 12)
    if names.turned:
        left = max(left, 0.77 * names.length - (width - left) / (2 * len(figure.x.categories)) + 8)
    area = Area(left, 30, width - 14, height - 26 - names.room)
    ys = replace(ys, start=area.bottom, end=area.top)
    xs = _x_scale(figure, area)
    marks = [
        _horizontal_grid(ys, area),
        _x_axis(figure, xs, area, names, height),
        _caption(f"↑ {figure.y.label}", width),
        *_series_marks(figure, xs, ys),
    ]
    return Drawing(join(*marks), width, height)


def _extent(figure: Figure) -> Iterator[float]:
    for series in figure.series:
        yield from series.y
        yield from series.low
        yield from series.high


def undrawable(figure: Figure) -> int:
    """Count the values that have no place in the chart: not finite, or not positive on a log axis."""
    if figure.kind == "heatmap":
        return 0
    xs = scale_for((x for s in figure.series for x in s.x), figure.x, 0, 1, spacing=1)
    ys = scale_for(_extent(figure), figure.y, 0, 1, spacing=1)
    return sum(
        not (xs.shows(x) and ys.shows(y))
        for series in figure.series
        for x, y in zip(series.x, series.y, strict=True)
    )


def _label_room(scale: Scale, width: float) -> float:
    widest = max((text_width(label, FONT) for _, label in scale.ticks), default=0.0)
    return min(widest, 0.34 * width) + 12


@dataclass(frozen=True)
class _Names:
    """How the names along x are written: turned or not, every how many, and the room they take below."""

    turned: bool
    every: int
    limit: float
    room: float
    length: float = 0.0


def _x_names(axis: Axis, length: float) -> _Names:
    if not axis.categories:
        return _Names(False, 1, 80, 22)
    slot = length / len(axis.categories)
    widest = max(text_width(visible(name), FONT) for name in axis.categories)
    if widest <= slot - 6:
        return _Names(False, 1, slot, 22)
    length = min(widest, 110.0)
    return _Names(True, max(1, -(-16 // int(max(slot, 1)))), 110, length * 0.64 + 16, length)


def _x_scale(figure: Figure, area: Area) -> Scale:
    values = [x for series in figure.series for x in series.x]
    scale = scale_for(values, figure.x, area.left, area.right, spacing=76, reach="tight")
    if figure.x.categories:
        return scale
    pad = _bar_half(figure, scale) if figure.kind == "bar" else 8.0
    return replace(scale, start=area.left + pad, end=area.right - pad)


def _bar_half(figure: Figure, scale: Scale) -> float:
    """Return half the width of one group of bars, so that the first and last stay inside."""
    places = sorted({scale(x) for series in figure.series for x in series.x if scale.shows(x)})
    gaps = [b - a for a, b in pairwise(places) if b - a > 0.01]
    return max(2.0, min([*gaps, 60.0]) * 0.42)


def _horizontal_grid(ys: Scale, area: Area) -> Markup:
    lines = []
    for value, label in ys.ticks:
        y = ys(value)
        kind = "zero" if value == 0 and ys.low < 0 else "grid"
        lines.append(tag("line", x1=area.left, x2=area.right, y1=y, y2=y, class_=kind))
        text = fitted(label, area.left - 8, FONT)
        lines.append(tag("text", text, x=area.left - 8, y=y + 4, text_anchor="end"))
    return tag("g", *lines, class_="axis")


def _x_axis(figure: Figure, xs: Scale, area: Area, names: _Names, height: float) -> Markup:
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


def _caption(label: str, width: float) -> Markup:
    return tag("text", fitted(label, width - 4, FONT), x=1, y=13, class_="label")


def _series_marks(figure: Figure, xs: Scale, ys: Scale) -> list[Markup]:
    if figure.kind == "bar":
        return _bars(figure, xs, ys)
    few = sum(len(series.x) for series in figure.series) <= _POINTS_SHOWN
    bands, lines = [], []
    for index, series in enumerate(figure.series):
        hue = f"hue{index % COLOURS}"
        rows = [row for row in _rows(series) if xs.shows(row[0])]
        if figure.kind == "line":
            rows.sort(key=lambda row: row[0])
            bands.append(tag("g", *_band(rows, xs, ys), class_=hue))
            lines.append(tag("g", *_line(rows, xs, ys, index), class_=hue))
        else:
            lines.append(tag("g", *_whiskers(rows, xs, ys), class_=hue))
        if few or figure.kind == "scatter":
            lines.append(tag("g", *_points(figure, series, rows, xs, ys, index), class_=hue))
    return bands + lines


Row = tuple[float, float, float, float]


def _rows(series: Series) -> list[Row]:
    """Return x, y, low, high for each point; without an interval low and high are y."""
    low, high = series.low or series.y, series.high or series.y
    return [
        (float(a), float(b), float(c), float(d))
        for a, b, c, d in zip(series.x, series.y, low, high, strict=True)
    ]


def _runs(rows: list[Row], scale: Scale, columns: tuple[int, ...]) -> Iterator[list[Row]]:
    """Split where a value is missing, so that no line is drawn through a gap."""
    run: list[Row] = []
    for row in rows:
        if all(scale.shows(row[column]) for column in columns):
            run.append(row)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _band(rows: list[Row], xs: Scale, ys: Scale) -> Iterator[Markup]:
    for run in _runs(rows, ys, (2, 3)):
        if len(run) > 1 and any(low != high for _, _, low, high in run):
            upper = [(xs(x), ys(high)) for x, _, _, high in run]
            lower = [(xs(x), ys(low)) for x, _, low, _ in reversed(run)]
            yield tag("path", d=path(upper + lower, close=True), class_="band")


def _line(rows: list[Row], xs: Scale, ys: Scale, index: int) -> Iterator[Markup]:
    for run in _runs(rows, ys, (1,)):
        points = _thinned([(xs(x), ys(y)) for x, y, _, _ in run])
        yield tag("path", d=path(points), class_="line", stroke_dasharray=_DASHES[index % len(_DASHES)])


def _thinned(points: list[Point], most: int = 2000) -> list[Point]:
    """Keep the lowest and the highest point of each small stretch of a long line."""
    if len(points) <= most:
        return points
    size = -(-2 * len(points) // most)
    kept = []
    for start in range(0, len(points), size):
        piece = points[start : start + size]
        kept += sorted({min(piece, key=lambda p: p[1]), max(piece, key=lambda p: p[1])})
    return kept


def _whiskers(rows: list[Row], xs: Scale, ys: Scale) -> Iterator[Markup]:
    for x, _, low, high in rows:
        if low != high and ys.shows(low) and ys.shows(high):
            yield tag("line", x1=xs(x), x2=xs(x), y1=ys(low), y2=ys(high), class_="whisker")


def _points(
    figure: Figure, series: Series, rows: list[Row], xs: Scale, ys: Scale, index: int
) -> Iterator[Markup]:
    told = len(rows) <= _POINTS_SHOWN
    crowded = len(rows) > 24 and figure.kind == "line"
    for row in rows[:5000]:
        if ys.shows(row[1]):
            value = (tag("title", _told(figure, series, row)),) if told else ()
            shape = marker(index, xs(row[0]), ys(row[1]), 4.2 if figure.kind == "scatter" else 3.2)
            yield tag("path", *value, d=shape, class_="point faint" if crowded else "point")


def _told(figure: Figure, series: Series, row: Row) -> str:
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


def marker(index: int, x: float, y: float, r: float) -> str:
    """Return the path of a point: circle, square, triangle, diamond, so that colour is not needed."""
    shape = index % 4
    if shape == 0:
        half = f"a{short(r)} {short(r)} 0 1 0"
        return f"M{short(x - r)} {short(y)}{half} {short(2 * r)} 0{half} {short(-2 * r)} 0Z"
    if shape == 1:
        return path([(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)], close=True)
    if shape == 2:
        return path([(x, y - 1.3 * r), (x + 1.2 * r, y + r), (x - 1.2 * r, y + r)], close=True)
    return path([(x, y - 1.4 * r), (x + 1.4 * r, y), (x, y + 1.4 * r), (x - 1.4 * r, y)], close=True)


def swatch(index: int, kind: str) -> Markup:
    """Draw the key of one series."""
    hue = f"hue{index % COLOURS}"
    if kind == "bar":
        mark: Markup = tag("rect", x=6, y=1, width=12, height=12, class_="bar", rx=1)
    else:
        dash = _DASHES[index % len(_DASHES)]
        line = tag("path", d="M0 7L24 7", class_="line", stroke_dasharray=dash)
        mark = join(
            *([line] if kind == "line" else []), tag("path", d=marker(index, 12, 7, 3.2), class_="point")
        )
    group = tag("g", mark, class_=hue)
    return tag("svg", group, viewBox="0 0 24 14", width=24, height=14, class_="swatch", aria_hidden="true")


def _bars(figure: Figure, xs: Scale, ys: Scale) -> list[Markup]:
    half = 0.4 * (xs(1) - xs(0)) if figure.x.categories else _bar_half(figure, xs)
    half = min(half, 46.0 * len(figure.series))
    each = 2 * half / max(len(figure.series), 1)
    base = ys(max(ys.low, 0.0) if not ys.log else ys.low)
    groups = []
    for index, series in enumerate(figure.series):
        marks = []
        for row in _rows(series):
            if not (xs.shows(row[0]) and ys.shows(row[1])):
                continue
            x = xs(row[0]) - half + index * each
            top, foot = sorted((ys(row[1]), base))
            told = tag("title", _told(figure, series, row))
            gap = min(1.0, each * 0.1)
            marks.append(
                tag(
                    "rect",
                    told,
                    x=x + gap,
                    y=top,
                    width=each - 2 * gap,
                    height=max(foot - top, 0.5),
                    class_="bar",
                )
            )
            if row[2] != row[3] and ys.shows(row[2]) and ys.shows(row[3]):
                middle = x + each / 2
                marks.append(
                    tag("line", x1=middle, x2=middle, y1=ys(row[2]), y2=ys(row[3]), class_="interval")
                )
        groups.append(tag("g", *marks, class_=f"hue{index % COLOURS}"))
    return groups


def _needs_rows(figure: Figure, width: float) -> bool:
    """Tell whether the names under upright bars would have to be turned."""
    if not figure.x.categories:
        return False
    slot = (width - 60) / len(figure.x.categories)
    return max(text_width(visible(name), FONT) for name in figure.x.categories) > slot - 6


def _bars_in_rows(figure: Figure, width: float) -> Drawing:
    """Draw lying bars, one row a category, names on the left."""
    thick = 16.0 if len(figure.series) == 1 else 11.0
    slot = thick * max(len(figure.series), 1) + 9
    height = 36 + slot * len(figure.x.categories) + 44
    widest = max(text_width(visible(name), FONT) for name in figure.x.categories)
    area = Area(min(widest, 0.38 * width) + 12, 26, width - 14, height - 44)
    ys = category_scale(figure.x.categories, area.top, area.bottom)
    xs = scale_for(_extent(figure), figure.y, area.left, area.right, spacing=76, reach="zero")
    parts = []
    for value, label in xs.ticks:
        x, kind = xs(value), "zero" if value == 0 else "grid"
        parts.append(tag("line", x1=x, x2=x, y1=area.top, y2=area.bottom, class_=kind))
        parts.append(tag("text", label, x=x, y=area.bottom + 16, text_anchor="middle"))
    for value, label in ys.ticks:
        text = fitted(label, area.left - 12, FONT)
        parts.append(tag("text", text, x=area.left - 8, y=ys(value) + 4, text_anchor="end"))
    label = fitted(f"{figure.y.label} →", area.right, FONT)
    parts.append(tag("text", label, x=area.right, y=height - 6, text_anchor="end", class_="label"))
    parts.append(_caption(figure.x.label, width))
    bars = [_row_of_bars(figure, index, xs, ys, thick) for index in range(len(figure.series))]
    return Drawing(join(tag("g", *parts, class_="axis"), *bars), width, height)


def _row_of_bars(figure: Figure, index: int, xs: Scale, ys: Scale, thick: float) -> Markup:
    series = figure.series[index]
    base = xs(max(xs.low, 0.0) if not xs.log else xs.low)
    marks = []
    for row in _rows(series):
        if not (ys.shows(row[0]) and xs.shows(row[1])):
            continue
        y = ys(row[0]) + (index - len(figure.series) / 2) * thick
        left, right = sorted((xs(row[1]), base))
        told = tag("title", _told(figure, series, row))
        marks.append(
            tag("rect", told, x=left, y=y + 0.5, width=max(right - left, 0.5), height=thick - 1, class_="bar")
        )
        if row[2] != row[3] and xs.shows(row[2]) and xs.shows(row[3]):
            middle = y + thick / 2
            marks.append(tag("line", x1=xs(row[2]), x2=xs(row[3]), y1=middle, y2=middle, class_="interval"))
    return tag("g", *marks, class_=f"hue{index % COLOURS}")
