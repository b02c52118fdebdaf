"""Charts: figure data → inline SVG in the page's own colours, and the same numbers as a table.

The charts are drawn here rather than by matplotlib's SVG writer, because they must reflow for narrow
screens, follow the page's light and dark colours and carry no style attributes, which the page's
content security policy forbids. Ticks and colour maps are matplotlib's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from probe.core.document import Axis, Cell, Column, Figure, Series, Table
from probe.report.charts import heatmap, plot
from probe.report.charts.axes import COLOURS, Drawing
from probe.report.charts.svg import tag
from probe.report.tables import Grid, grid
from probe.report.text import number

TABLE_ROWS = 400
TABLE_COLUMNS = 40
_ALONG_X = "The place along the horizontal axis."


@dataclass(frozen=True)
class Chart:
    """One chart for the page: ``drawings`` are (class, SVG) for wide and narrow places."""

    title: str
    reading: str
    legend: tuple[tuple[Markup, str], ...]
    drawings: tuple[tuple[str, Markup], ...]
    table: Grid
    notes: tuple[str, ...]


def chart(figure: Figure, identifier: str) -> Chart:
    """Draw a figure for wide and for narrow places; ids inside begin with ``identifier``."""
    legend = tuple((plot.swatch(index, figure.kind), series.label) for index, series in _named(figure))
    table, note = twin(figure)
    missing = plot.undrawable(figure)
    notes = [note] if note else []
    if missing:
        notes.append(f"{missing} value{'s' if missing > 1 else ''} cannot be drawn: see the table.")
    return Chart(
        figure.title, figure.reading, legend, tuple(_drawings(figure, identifier)), grid(table), tuple(notes)
    )


def _named(figure: Figure) -> list[tuple[int, Series]]:
    """Return the series that need a key: one series alone is named by the axis."""
    return list(enumerate(figure.series)) if len(figure.series) > 1 else []


def _drawings(figure: Figure, identifier: str) -> Iterator[tuple[str, Markup]]:
    for name, width, height in (("wide", 820.0, 380.0), ("narrow", 340.0, 300.0)):
        own = f"{identifier}:{name}"
        heat = figure.kind == "heatmap"
        drawn = heatmap.draw(figure, width, own) if heat else plot.draw(figure, width, height)
        if drawn is None:
            return
        yield name, _framed(figure, drawn, own)


def _framed(figure: Figure, drawn: Drawing, own: str) -> Markup:
    """Wrap the marks into one image with a name and a description for those who cannot see it."""
    return tag(
        "svg",
        tag("title", figure.title, id=f"{own}-title"),
        tag("desc", describe(figure), id=f"{own}-desc"),
        drawn.marks,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {drawn.width:g} {drawn.height:g}",
        width=drawn.width,
        height=drawn.height,
        role="img",
        aria_labelledby=f"{own}-title {own}-desc",
        font_size=12,
        class_="plot",
        data_kind=figure.kind,
    )


def describe(figure: Figure) -> str:
    """Say in words what a chart shows: kind, axes, series with their first and last values."""
    names = {"line": "Line chart", "bar": "Bar chart", "scatter": "Scatter plot", "heatmap": "Heat map"}
    if figure.kind == "heatmap":
        rows, columns = len(figure.matrix), max(map(len, figure.matrix), default=0)
        value = figure.value_label or "value"
        size = f"{rows} rows ({figure.y.label}) by {columns} columns ({figure.x.label})"
        return f"{names['heatmap']} of {value}, {size}."
    parts = [f"{names[figure.kind]} of {figure.y.label} against {figure.x.label}."]
    for series in figure.series[:COLOURS]:
        if series.y:
            first, last = (
                f"{number(series.y[i], 4, trim=True)} at {_position(figure.x, series.x[i])}" for i in (0, -1)
            )
            parts.append(f"{series.label or figure.y.label}: from {first} to {last}.")
    return " ".join(parts)


def _position(axis: Axis, place: float) -> str:
    if axis.categories and float(place).is_integer() and 0 <= place < len(axis.categories):
        return axis.categories[int(place)]
    return number(float(place), 4, trim=True)


def twin(figure: Figure) -> tuple[Table, str]:
    """Return the chart's numbers as a table, and a note when not all of them fit into it."""
    table = _matrix_table(figure) if figure.kind == "heatmap" else _series_table(figure)
    rows, columns = table.rows, table.columns
    note = ""
    if len(rows) > TABLE_ROWS or len(columns) > TABLE_COLUMNS:
        rows = tuple(row[:TABLE_COLUMNS] for row in rows[:TABLE_ROWS])
        note = (
            f"The table shows the first {len(rows)} of {len(table.rows)} rows and the first "
            f"{min(len(columns), TABLE_COLUMNS)} of {len(columns)} columns."
        )
        columns = columns[:TABLE_COLUMNS]
    return Table(table.title, columns, rows), note


def _series_table(figure: Figure) -> Table:
    """One row a place, one column a series, where each series has one value at each of its places."""
    if figure.kind == "scatter" or any(not _single_valued(series) for series in figure.series):
        return _long_table(figure)
    places = sorted({float(x) for series in figure.series for x in series.x})
    columns = [Column(figure.x.label, help=_ALONG_X, digits=4)]
    rows: list[list[Cell]] = [[_place(figure.x, place)] for place in places]
    for series in figure.series:
        for suffix, told, values in (
            ("", "", series.y),
            (", low", ", the lower end of its band or whisker", series.low),
            (", high", ", the upper end of its band or whisker", series.high),
        ):
            if values or not suffix:
                name = series.label or figure.y.label
                columns.append(Column(name + suffix, help=f"{figure.y.label}{told}.", digits=4))
                lookup = dict(zip(series.x, values, strict=True))
                for row, place in zip(rows, places, strict=True):
                    row.append(lookup.get(place))
    return Table(figure.title, tuple(columns), tuple(map(tuple, rows)))


def _single_valued(series: Series) -> bool:
    return len(set(series.x)) == len(series.x) and all(map(math.isfinite, series.x))


def _long_table(figure: Figure) -> Table:
    """One row a point, for series that have several points at one place."""
    columns = (
        Column("series", help="The name in the chart's key."),
        Column(figure.x.label, help=_ALONG_X, digits=4),
        Column(figure.y.label, help="The place along the vertical axis.", digits=4),
    )
    rows = tuple(
        (series.label, _place(figure.x, float(x)), y)
        for series in figure.series
        for x, y in zip(series.x, series.y, strict=True)
    )
    return Table(figure.title, columns, rows)


def _matrix_table(figure: Figure) -> Table:
    width = max(map(len, figure.matrix), default=0)
    value = figure.value_label or "The value"
    columns = [Column(figure.y.label, help="The row of the heat map.")]
    for index in range(width):
        name = str(_place(figure.x, float(index)))
        columns.append(Column(name, help=f"{value} where {figure.x.label} is {name}."))
    rows = tuple(
        (str(_place(figure.y, float(index))), *row, *[None] * (width - len(row)))
        for index, row in enumerate(figure.matrix)
    )
    return Table(figure.title, tuple(columns), rows)


def _place(axis: Axis, place: float) -> Cell:
    if axis.categories:
        return _position(axis, place)
    return int(place) if place.is_integer() and abs(place) < 1e15 else place
