"""Figure data → a drawing by matplotlib, the one from which pages, files and notebooks get theirs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from matplotlib import figure as mpl
from matplotlib import style
from matplotlib.axes import Axes

from probe.core.blocks import Axis, Figure
from probe.report.charts import heatmap, marks, polar
from probe.report.charts.looks import FONT, fit, settings, text_width
from probe.report.charts.scales import drawable, names_fit, set_axis

_LEGEND_ROW = 20.0
_SIDES = 80.0
"""About what the labels of the upright axis take from the width, in units of the design."""


@dataclass(frozen=True)
class Drawing:
    """A drawing, and what its marks say: gid → one sentence for each mark of that artist, in the order drawn."""

    canvas: mpl.Figure
    sentences: dict[str, list[str]] = field(default_factory=dict)


def draw(figure: Figure, width: float = 6.4, font: float = 10.0) -> mpl.Figure:
    """Draw a figure ``width`` inches wide, with letters of ``font`` points; its height follows from what it holds.

    The title is left to the caption. Texts too long for their place are cut in the middle.
    """
    return drawing(figure, width, font).canvas


def drawing(figure: Figure, width: float, font: float) -> Drawing:
    """Draw a figure as ``draw`` does, and keep what each mark says."""
    if figure.kind == "bar":
        # bars of one width have no place on a log axis
        figure = replace(figure, x=replace(figure.x, scale="linear"))
    if figure.kind == "polar":
        figure = replace(figure, x=Axis(figure.x.label), y=Axis(figure.y.label))
    unit = font / FONT
    across = 72 * width / unit
    with quiet(unit):
        flat = figure.kind == "bar" and _names_turn(figure, across)
        if figure.kind == "heatmap":
            across, down = heatmap.size(figure, across)
        else:
            down = _height(figure, across, flat)
        canvas = mpl.Figure((across * unit / 72, down * unit / 72), dpi=72, layout="constrained")
        canvas.get_layout_engine().set(w_pad=5 * unit / 72, h_pad=5 * unit / 72)  # type: ignore[union-attr, call-arg]
        axes = canvas.add_subplot(projection="polar" if figure.kind == "polar" else None)
        chart = Drawing(canvas)
        if figure.kind == "heatmap":
            heatmap.fill(axes, figure, chart.sentences, across, down, unit)
        elif figure.kind == "polar":
            polar.fill(axes, figure, chart.sentences, across, unit)  # type: ignore[arg-type]
        elif flat:
            _scales(axes, figure, across, down, flat)
            marks.lying_bars(axes, figure, chart.sentences, unit)
        else:
            _scales(axes, figure, across, down, flat)
            marks.fill(axes, figure, chart.sentences, across - _SIDES, unit)
        if len(figure.series) > 1 and figure.kind != "heatmap":
            _legend(canvas, axes, figure, across)
    return chart


@contextmanager
def quiet(unit: float = 1.0) -> Iterator[None]:
    """Work under our settings alone, whatever the user's are, without warnings of glyphs that a font lacks."""
    with style.context(["default", settings(unit)]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*(Glyph|natively support|constrained_layout not applied)")
        yield


def has_marks(figure: Figure) -> bool:
    """Tell whether a figure has a value that can be drawn."""
    if figure.kind == "heatmap":
        return any(drawable(value) for row in figure.matrix for value in row)
    return any(True for series in figure.series for _ in marks.rows_of(figure, series))


def _names_turn(figure: Figure, across: float) -> bool:
    """Tell whether names along x have to be turned; bars lie instead."""
    names = figure.x.categories
    return bool(names) and not names_fit(names, (across - _SIDES) / len(names))


def _height(figure: Figure, across: float, flat: bool) -> float:
    if figure.kind == "polar":
        down = min(polar.HEIGHT, across)
    elif flat:
        down = 80 + (marks.thickness(figure) * marks.abreast(figure) + 9) * len(figure.x.categories)
    else:
        down = min(380.0, max(250.0, 0.44 * across)) + (60 if _names_turn(figure, across) else 0)
    return down + _LEGEND_ROW * (_legend_rows(figure, across) if len(figure.series) > 1 else 0)


def _scales(axes: Axes, figure: Figure, across: float, down: float, flat: bool) -> None:
    values = [value for series in figure.series for row in marks.rows_of(figure, series) for value in row[1:]]
    places = [row[0] for series in figure.series for row in marks.rows_of(figure, series)]
    bars = figure.kind == "bar"
    if flat:
        set_axis(axes, "y", figure.x, places, down - 80, "tight", 0.36 * across)
        axes.invert_yaxis()
        set_axis(axes, "x", figure.y, values, 0.6 * across, "zero")
    else:
        pad = marks.half_width(figure, across - _SIDES) if bars else 0.0
        set_axis(axes, "x", figure.x, places, across - _SIDES, "tight", pad)
        set_axis(axes, "y", figure.y, values, down - 60, "zero" if bars else "round")
    axes.grid(axis="x" if flat else "y", clip_on=False)
    axes.spines["bottom" if flat else "left"].set_visible(False)


def _legend_columns(figure: Figure, across: float) -> int:
    widest = max(text_width(fit(series.label, across - 60)) for series in figure.series)
    return max(1, min(len(figure.series), int(across / (widest + 50))))


def _legend_rows(figure: Figure, across: float) -> int:
    return -(-len(figure.series) // _legend_columns(figure, across))


def _legend(canvas: mpl.Figure, axes: Axes, figure: Figure, across: float) -> None:
    handles: list[Any] = [line for line in axes.lines if (line.get_gid() or "").startswith("point:")]
    canvas.legend(
        handles or list[Any](axes.containers),
        [fit(series.label, across - 60) for series in figure.series],
        loc="outside upper left",
        ncols=_legend_columns(figure, across),
        frameon=False,
        borderpad=0,
        borderaxespad=0.2,
        handlelength=2.2,
        columnspacing=1.6,
        labelspacing=0.35,
    )
