"""Bars, standing or lying, with their intervals."""

from __future__ import annotations

from itertools import pairwise

from markupsafe import Markup

from probe.core.document import Figure
from probe.report.charts.axes import COLOURS, FONT, Area, Drawing, caption, extent, rows_of, told
from probe.report.charts.scales import Scale, category_scale, scale_for
from probe.report.charts.svg import fitted, join, tag, text_width
from probe.report.text import visible


def upright(figure: Figure, xs: Scale, ys: Scale) -> list[Markup]:
    """Draw standing bars, those of one place side by side."""
    half = 0.4 * (xs(1) - xs(0)) if figure.x.categories else half_width(figure, xs)
    half = min(half, 46.0 * len(figure.series))
    each = 2 * half / max(len(figure.series), 1)
    base = ys(max(ys.low, 0.0) if not ys.log else ys.low)
    groups = []
    for index, series in enumerate(figure.series):
        marks = []
        for row in rows_of(series):
            if not (xs.shows(row[0]) and ys.shows(row[1])):
                continue
            x = xs(row[0]) - half + index * each
            top, foot = sorted((ys(row[1]), base))
            label = tag("title", told(figure, series, row))
            gap = min(1.0, each * 0.1)
            marks.append(
                tag(
                    "rect",
                    label,
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


def half_width(figure: Figure, scale: Scale) -> float:
    """Return half the width of one group of bars, so that the first and last stay inside."""
    places = sorted({scale(x) for series in figure.series for x in series.x if scale.shows(x)})
    gaps = [b - a for a, b in pairwise(places) if b - a > 0.01]
    return max(2.0, min([*gaps, 60.0]) * 0.42)


def needs_rows(figure: Figure, width: float) -> bool:
    """Tell whether the names under upright bars would have to be turned."""
    if not figure.x.categories:
        return False
    slot = (width - 60) / len(figure.x.categories)
    return max(text_width(visible(name), FONT) for name in figure.x.categories) > slot - 6


def in_rows(figure: Figure, width: float) -> Drawing:
    """Draw lying bars, one row a category, names on the left."""
    thick = 16.0 if len(figure.series) == 1 else 11.0
    slot = thick * max(len(figure.series), 1) + 9
    height = 36 + slot * len(figure.x.categories) + 44
    widest = max(text_width(visible(name), FONT) for name in figure.x.categories)
    area = Area(min(widest, 0.38 * width) + 12, 26, width - 14, height - 44)
    ys = category_scale(figure.x.categories, area.top, area.bottom)
    xs = scale_for(extent(figure), figure.y, area.left, area.right, spacing=76, reach="zero")
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
    parts.append(caption(figure.x.label, width))
    bars = [_row_of_bars(figure, index, xs, ys, thick) for index in range(len(figure.series))]
    return Drawing(join(tag("g", *parts, class_="axis"), *bars), width, height)


def _row_of_bars(figure: Figure, index: int, xs: Scale, ys: Scale, thick: float) -> Markup:
    series = figure.series[index]
    base = xs(max(xs.low, 0.0) if not xs.log else xs.low)
    marks = []
    for row in rows_of(series):
        if not (ys.shows(row[0]) and xs.shows(row[1])):
            continue
        y = ys(row[0]) + (index - len(figure.series) / 2) * thick
        left, right = sorted((xs(row[1]), base))
        label = tag("title", told(figure, series, row))
        marks.append(
            tag(
                "rect", label, x=left, y=y + 0.5, width=max(right - left, 0.5), height=thick - 1, class_="bar"
            )
        )
        if row[2] != row[3] and xs.shows(row[2]) and xs.shows(row[3]):
            middle = y + thick / 2
            marks.append(tag("line", x1=xs(row[2]), x2=xs(row[3]), y1=middle, y2=middle, class_="interval"))
    return tag("g", *marks, class_=f"hue{index % COLOURS}")
