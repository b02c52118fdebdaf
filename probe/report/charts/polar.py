"""Polar charts: lines around a centre, the angle in degrees counterclockwise from the right."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MaxNLocator

from probe.core.blocks import Figure
from probe.report.charts.looks import DASHES, HUES, LINE, SOFT, STRONG_LINE, fit
from probe.report.charts.marks import Sentences, marker, rows_of, sentence
from probe.report.charts.scales import TickNumbers

HEIGHT = 360.0
"""The height of a polar chart, in units of the design."""

_RINGS = 3
_ANGLES = range(0, 360, 45)
_RING_NUMBERS = 22.5
"""Where the rings' numbers stand, between two of the angles that are written."""


def fill(axes: PolarAxes, figure: Figure, sentences: Sentences, across: float, unit: float) -> None:
    """Draw every series as a closed line; values below 0 lie in the centre."""
    rows = [list(rows_of(figure, series)) for series in figure.series]
    largest = max((max(row[1:]) for part in rows for row in part), default=1.0)
    top = largest if largest > 0 else 1.0
    axes.set_ylim(0, 1.04 * top)
    axes.set_xticks([math.radians(angle) for angle in _ANGLES], [f"{angle}°" for angle in _ANGLES])
    rings = [ring for ring in MaxNLocator(_RINGS).tick_values(0, top) if 0 < ring <= 1.02 * top] or [top]
    axes.set_yticks(rings, TickNumbers().format_ticks(rings))
    axes.set_rlabel_position(_RING_NUMBERS)
    axes.tick_params(axis="y", labelcolor=SOFT)
    axes.grid(color=LINE, linewidth=unit)
    axes.spines["polar"].set_color(STRONG_LINE)
    axes.set_xlabel(fit(figure.x.label, across))
    for index, (series, part) in enumerate(zip(figure.series, rows, strict=True)):
        part.sort(key=lambda row: row[0])
        angles, values, low, high = np.array([*part, *part[:1]], dtype=float).reshape(-1, 4).T
        angles, values, low, high = np.radians(angles), *(np.maximum(v, 0) for v in (values, low, high))
        hue = HUES[index % len(HUES)]
        if (low != high).any():
            axes.fill_between(angles, low, high, color=hue, alpha=0.16, linewidth=0, gid=f"band:{index}")
        sentences[f"point:{index}"] = [sentence(figure, series, row) for row in part]
        look = marker(series, index, 5.6 * unit, unit)
        axes.plot(
            angles, values, linestyle=DASHES[index % len(DASHES)], markevery=list(range(len(part))), **look
        )
