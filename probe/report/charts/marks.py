"""Marks at their places: lines with bands, points with whiskers, bars with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from probe.core.blocks import Axis, Figure, Series
from probe.report.charts.looks import DASHES, HUES, INK, MARKERS, PAPER, STRONG_LINE
from probe.report.charts.scales import drawable
from probe.report.text import number

_POINTS_SHOWN = 600
"""With more points than this, scattered points carry no values, and only some points of a line do."""
_POINTS_DRAWN = 5000
_CROWDED = 24
"""With more points than this, a line's points are seen only where they are looked at."""

_FREE: dict[str, Any] = {"clip_on": False, "in_layout": False}
"""Marks are inside the axes by what the axes were made for: they need neither to be cut nor to be measured."""
_WIDEST = 92.0
"""The widest bar, in units of the design."""

Row = tuple[float, float, float, float]
"""x, y, and the ends of the interval (y itself where there is none that can be drawn)."""
Sentences = dict[str, list[str]]
"""gid → one sentence for each mark of that artist, in the order drawn."""


def rows_of(figure: Figure, series: Series, *, gaps: bool = False) -> Iterator[Row]:
    """Yield x, y, low, high for each point that can be drawn; with ``gaps`` also where only y cannot, as not-a-number."""
    ends = series.low or series.y, series.high or series.y
    for x, y, low, high in zip(series.x, series.y, *ends, strict=True):
        # A bar between two categories would stand for neither, and beside the last one outside of the chart.
        between = figure.kind == "bar" and bool(figure.x.categories) and not float(x).is_integer()
        if between or not drawable(x, figure.x):
            continue
        if not drawable(y, figure.y):
            if gaps:
                yield float(x), math.nan, math.nan, math.nan
        elif drawable(low, figure.y) and drawable(high, figure.y):
            yield float(x), float(y), float(low), float(high)
        else:
            yield float(x), float(y), float(y), float(y)


def fill(axes: Axes, figure: Figure, sentences: Sentences, across: float, unit: float) -> None:
    """Put the series of a line or scatter chart, or upright bars, into axes that have their scales."""
    if figure.y.scale == "linear" and axes.get_ylim()[0] < 0:
        axes.axhline(0, color=STRONG_LINE, linewidth=unit, clip_on=False)
    if figure.kind == "bar":
        _bars(axes, figure, sentences, unit, 2 * half_width(figure, across), lying=False)
        return
    every = -(-sum(len(series.x) for series in figure.series) // _POINTS_SHOWN)
    for index, series in enumerate(figure.series):
        if figure.kind == "line":
            _line(axes, figure, index, every, sentences, unit)
        else:
            rows = list(rows_of(figure, series))[:_POINTS_DRAWN]
            _intervals(axes, [row for row in rows if row[2] != row[3]], HUES[index % len(HUES)], 1.5 * unit)
            if every == 1:
                sentences[f"point:{index}"] = [sentence(figure, series, row) for row in rows]
            xs, ys = [row[0] for row in rows], [row[1] for row in rows]
            axes.plot(xs, ys, linestyle="none", **marker(series, index, 8.4 * unit, unit))


def _line(axes: Axes, figure: Figure, index: int, every: int, sentences: Sentences, unit: float) -> None:
    """Draw a line over its band, broken where a value is missing, with points that carry the values."""
    series = figure.series[index]
    rows = sorted(rows_of(figure, series, gaps=True), key=lambda row: row[0])
    x, y, low, high = np.array(rows, dtype=float).reshape(-1, 4).T
    hue = HUES[index % len(HUES)]
    if (low != high)[np.isfinite(y)].any():
        axes.fill_between(x, low, high, color=hue, alpha=0.16, linewidth=0, gid=f"band:{index}", **_FREE)
    finite = [place for place, row in enumerate(rows) if math.isfinite(row[1])]
    marked = finite if every <= 1 else [*finite[:-1:every], *finite[-1:]]
    sentences[f"point:{index}"] = [sentence(figure, series, rows[place]) for place in marked]
    look = marker(series, index, 6.4 * unit, unit)
    if len(marked) > _CROWDED:
        look |= {"markerfacecolor": to_rgba(hue, 0), "markeredgecolor": to_rgba(PAPER, 0)}
    axes.plot(x, y, linestyle=DASHES[index % len(DASHES)], markevery=marked, **look)


def marker(series: Series, index: int, size: float, unit: float) -> dict[str, Any]:
    """Return the look of a series' line and points: the colour, shape and name by its place among the series."""
    return {
        "color": HUES[index % len(HUES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": size,
        "markeredgecolor": PAPER,
        "markeredgewidth": unit,
        "label": series.label,
        "gid": f"point:{index}",
        **_FREE,
    }


def _intervals(axes: Axes, rows: list[Row], colour: str, width: float, *, lying: bool = False) -> None:
    draw = axes.hlines if lying else axes.vlines
    places, low, high = [row[0] for row in rows], [row[2] for row in rows], [row[3] for row in rows]
    if rows:
        draw(places, low, high, color=colour, linewidth=width, **_FREE)


def half_width(figure: Figure, across: float) -> float:
    """Return half the width of one group of bars, in the unit of the axis that they stand on."""
    if figure.x.categories:
        return min(0.4, _WIDEST * abreast(figure) * len(figure.x.categories) / (2 * across))
    gaps = [b - a for a, b in pairwise(sorted(_present(figure))) if b > a]
    return 0.42 * min(gaps, default=1.0)


def lying_bars(axes: Axes, figure: Figure, sentences: Sentences, unit: float) -> None:
    """Put bars into axes with the names along y, one row a category."""
    group = thickness(figure) * abreast(figure)
    _bars(axes, figure, sentences, unit, group / (group + 9), lying=True)


def thickness(figure: Figure) -> float:
    """Return the thickness of a lying bar in units of the design."""
    return 16.0 if abreast(figure) == 1 else 11.0


def abreast(figure: Figure) -> int:
    """Return how many bars stand side by side where there are most."""
    return max(map(len, _present(figure).values()), default=1)


def _present(figure: Figure) -> dict[float, list[int]]:
    """Return for each place the series that have a bar there."""
    series_at: dict[float, list[int]] = {}
    for index, series in enumerate(figure.series):
        for place in dict.fromkeys(row[0] for row in rows_of(figure, series)):
            series_at.setdefault(place, []).append(index)
    return series_at


def _bars(
    axes: Axes, figure: Figure, sentences: Sentences, unit: float, width: float, *, lying: bool
) -> None:
    bar_width, present = width / abreast(figure), _present(figure)
    log = figure.y.scale == "log"
    base = (axes.get_xlim() if lying else axes.get_ylim())[0] if log else 0.0
    for index, series in enumerate(figure.series):
        rows = list(rows_of(figure, series))
        places = [x + (present[x].index(index) - (len(present[x]) - 1) / 2) * bar_width for x, *_ in rows]
        lengths = [row[1] - base for row in rows]
        look: dict[str, Any] = {"color": HUES[index % len(HUES)], "label": series.label, **_FREE}
        if lying:
            drawn = axes.barh(places, lengths, 0.94 * bar_width, left=base, **look)
        else:
            drawn = axes.bar(places, lengths, 0.94 * bar_width, bottom=base, **look)
        for order, (bar, row) in enumerate(zip(drawn, rows, strict=True)):
            bar.set_gid(f"bar:{index}:{order}")
            sentences[f"bar:{index}:{order}"] = [sentence(figure, series, row)]
        measured = [(x, *row[1:]) for x, row in zip(places, rows, strict=True) if row[2] != row[3]]
        for colour, thick in ((PAPER, 4.5), (INK, 1.5)):
            _intervals(axes, measured, colour, thick * unit, lying=lying)


def sentence(figure: Figure, series: Series, row: Row) -> str:
    """Say what is at one point: the value with its interval, then on a line of its own the place."""
    x, y, low, high = row
    value = f"{series.label or figure.y.label}: {number(y, 4, trim=True)}"
    if low != high:
        value += f" ({number(low, 4, trim=True)} to {number(high, 4, trim=True)})"
    return f"{value}\n{figure.x.label}: {position(figure.x, x)}"


def position(axis: Axis, place: float) -> str:
    """Write a place on an axis: its category, or its number."""
    if axis.categories and float(place).is_integer() and 0 <= place < len(axis.categories):
        return axis.categories[int(place)]
    return number(float(place), 4, trim=True)
