"""Line and scatter charts, and the way to bars: intervals, lines, points, keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from markupsafe import Markup

from probe.core.document import Figure, Series
from probe.report.charts import bars
from probe.report.charts.axes import (
    COLOURS,
    Area,
    Drawing,
    Row,
    caption,
    extent,
    horizontal_grid,
    label_room,
    rows_of,
    told,
    x_axis,
    x_names,
)
from probe.report.charts.scales import Scale, scale_for
from probe.report.charts.svg import join, path, short, tag

_DASHES = (None, "7 3", "2 3", "9 3 2 3")
_POINTS_SHOWN = 600
"""With more points than this, scattered points carry no values, and only some points of a line do."""

Point = tuple[float, float]


def draw(figure: Figure, width: float, height: float) -> Drawing | None:
    """Draw a line, bar or scatter chart; None when there is nothing that can be drawn."""
    if not any(True for series in figure.series for _ in zip(series.x, series.y, strict=True)):
        return None
    if figure.kind == "bar" and bars.needs_rows(figure, width):
        return bars.in_rows(figure, width)
    ys = scale_for(
        extent(figure), figure.y, height, 0, spacing=46, reach="zero" if figure.kind == "bar" else "round"
    )
    left = label_room(ys, width)
    names = x_names(figure.x, width - left - 12)
    if names.turned:
        left = max(left, 0.77 * names.length - (width - left) / (2 * len(figure.x.categories)) + 8)
    area = Area(left, 30, width - 14, height - 26 - names.room)
    ys = replace(ys, start=area.bottom, end=area.top)
    xs = _x_scale(figure, area)
    marks = [
        horizontal_grid(ys, area),
        x_axis(figure, xs, area, names, height),
        caption(f"↑ {figure.y.label}", width),
        *_series_marks(figure, xs, ys),
    ]
    return Drawing(join(*marks), width, height)


def undrawable(figure: Figure) -> int:
    """Count the values that have no place in the chart: not finite, or not positive on a log axis."""
    if figure.kind == "heatmap":
        return 0
    xs = scale_for((x for s in figure.series for x in s.x), figure.x, 0, 1, spacing=1)
    ys = scale_for(extent(figure), figure.y, 0, 1, spacing=1)
    return sum(
        not (xs.shows(x) and ys.shows(y))
        for series in figure.series
        for x, y in zip(series.x, series.y, strict=True)
    )


def _x_scale(figure: Figure, area: Area) -> Scale:
    values = [x for series in figure.series for x in series.x]
    scale = scale_for(values, figure.x, area.left, area.right, spacing=76, reach="tight")
    if figure.x.categories:
        return scale
    pad = bars.half_width(figure, scale) if figure.kind == "bar" else 8.0
    return replace(scale, start=area.left + pad, end=area.right - pad)


def _series_marks(figure: Figure, xs: Scale, ys: Scale) -> list[Markup]:
    if figure.kind == "bar":
        return bars.upright(figure, xs, ys)
    every = -(-sum(len(series.x) for series in figure.series) // _POINTS_SHOWN)
    bands, lines = [], []
    for index, series in enumerate(figure.series):
        hue = f"hue{index % COLOURS}"
        rows = [row for row in rows_of(series) if xs.shows(row[0])]
        if figure.kind == "line":
            rows.sort(key=lambda row: row[0])
            bands.append(tag("g", *_band(rows, xs, ys), class_=hue))
            lines.append(tag("g", *_line(rows, xs, ys, index), class_=hue))
        else:
            lines.append(tag("g", *_whiskers(rows, xs, ys), class_=hue))
        kept = rows if figure.kind == "scatter" else _spaced(rows, every)
        lines.append(tag("g", *_points(figure, series, kept, xs, ys, index), class_=hue))
    return bands + lines


def _spaced(rows: list[Row], every: int) -> list[Row]:
    """Keep one row in ``every``, and the last, so that long curves tell values along their whole length."""
    return rows if every <= 1 else [*rows[:-1:every], *rows[-1:]]


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
    speaking = len(rows) <= _POINTS_SHOWN
    crowded = len(rows) > 24 and figure.kind == "line"
    for row in rows[:5000]:
        if ys.shows(row[1]):
            value = (tag("title", told(figure, series, row)),) if speaking else ()
            shape = marker(index, xs(row[0]), ys(row[1]), 4.2 if figure.kind == "scatter" else 3.2)
            yield tag("path", *value, d=shape, class_="point faint" if crowded else "point")


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
