"""Heat maps: a matrix as coloured cells with a key."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from probe.core.blocks import Figure
from probe.report.charts.looks import MISSING, ON_DARK, ON_LIGHT, fit, lines, text_width
from probe.report.charts.marks import Sentences, position
from probe.report.charts.scales import TickNumbers, drawable, names_fit, set_names
from probe.report.text import number

_CELLS_DRAWN = 900
"""A matrix with more cells becomes a picture, and its values are in the table only."""
_CELLS_WRITTEN = 400
_WIDEST, _HIGHEST = 76.0, 34.0


def size(figure: Figure, across: float) -> tuple[float, float]:
    """Return the width, at most ``across``, and the height that a heat map needs, in units of the design."""
    rows, columns = _matrix(figure).shape
    sides = _beside(figure, across)
    side = max(2.0, min((across - sides) / max(columns, 1), _WIDEST))
    high = max(min(side, _HIGHEST), 3.0 if rows > 60 else 16.0)
    turned = bool(figure.x.categories) and not names_fit(figure.x.categories, side)
    return min(across, max(sides + side * columns, 240.0)), max(high * rows, 60.0) + (180 if turned else 120)


def fill(axes: Axes, figure: Figure, sentences: Sentences, across: float, down: float, unit: float) -> None:
    """Draw the matrix, first row on top.

    Values of both signs get a diverging map with zero in its middle, others a sequential one.
    """
    values = _matrix(figure)
    rows, columns = values.shape
    colours = _colours(values)
    high = down - 120
    across -= _beside(figure, across)
    set_names(axes, "x", _names(figure.x.categories, columns), across)
    set_names(axes, "y", _names(figure.y.categories, rows), high, 0.36 * across)
    axes.invert_yaxis()
    axes.set_xlabel(lines(figure.x.label, across))
    axes.set_ylabel(lines(figure.y.label, high + 40))
    axes.spines[["left", "bottom"]].set_visible(False)
    if values.size <= _CELLS_DRAWN:
        _cells(axes, figure, values, colours, sentences, across / columns, unit)
    else:
        paint = colours.to_rgba(np.ma.masked_invalid(values), bytes=True)
        axes.imshow(paint, interpolation="none", aspect="auto")
    look: dict[str, Any] = {
        "location": "top",
        "anchor": (0, 0),
        "shrink": 0.6,
        "aspect": 24,
        "pad": 12 / down,
    }
    key = axes.figure.colorbar(colours, ax=axes, **look)
    key.outline.set_visible(False)
    key.locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
    key.formatter = TickNumbers()
    key.set_label(fit(figure.value_label or "value", across), loc="left")


def _beside(figure: Figure, across: float) -> float:
    """Return about how much of the width the names of the rows and the key take."""
    widest = max((text_width(name) for name in figure.y.categories[: len(figure.matrix)]), default=24.0)
    return min(widest, 0.36 * across) + 40


def _matrix(figure: Figure) -> NDArray[np.float64]:
    """Return the rows as one array, short rows filled with not-a-number."""
    columns = max(map(len, figure.matrix), default=0)
    values = np.full((len(figure.matrix), columns), np.nan)
    for index, row in enumerate(figure.matrix):
        values[index, : len(row)] = [value if drawable(value) else np.nan for value in row]
    return values


def _colours(values: NDArray[np.float64]) -> ScalarMappable:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    signed = low < 0 < high
    if signed:
        low, high = -max(-low, high), max(-low, high)
    colours: Colormap = colormaps["RdBu_r" if signed else "viridis"].with_extremes(bad=MISSING)
    return ScalarMappable(Normalize(low, high if high > low else low + 1), colours)


def _names(categories: tuple[str, ...], count: int) -> tuple[str, ...]:
    return (*categories[:count], *map(str, range(len(categories), count)))


def _cells(
    axes: Axes,
    figure: Figure,
    values: NDArray[np.float64],
    colours: ScalarMappable,
    sentences: Sentences,
    wide: float,
    unit: float,
) -> None:
    edges = [np.arange(count + 1) - 0.5 for count in values.shape]
    shown = np.ma.masked_invalid(values)
    low, high = colours.get_clim()
    axes.pcolormesh(
        edges[1],
        edges[0],
        shown,
        cmap=colours.cmap,
        vmin=low,
        vmax=high,
        gid="cell",
        clip_on=False,
        in_layout=False,
    )
    sentences["cell"] = [
        f"{number(value, 4, trim=True)}\n{position(figure.y, r)}, {position(figure.x, c)}"
        for (r, c), value in np.ndenumerate(values)
    ]
    if wide < 30 or values.size > _CELLS_WRITTEN:
        return
    for ((r, c), value), paint in zip(
        np.ndenumerate(values), colours.to_rgba(shown).reshape(-1, 4), strict=True
    ):
        label = number(value, 2)
        if np.isfinite(value) and text_width(label, 11) <= wide - 2:
            dark = np.dot(paint[:3], (0.299, 0.587, 0.114)) < 0.55
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11 * unit, "in_layout": False}
            axes.text(c, r, label, color=ON_DARK if dark else ON_LIGHT, **look)
