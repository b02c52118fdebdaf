"""Charts of the page: a drawing for wide and one for narrow places, and the same numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.report.charts.draw import drawing, has_marks
from probe.report.charts.inline import inline
from probe.report.charts.looks import FONT, HUES
from probe.report.charts.marks import position, rows_of
from probe.report.tables import Grid, grid
from probe.report.text import number

TABLE_ROWS = 400
TABLE_COLUMNS = 40
_ALONG_X = "The place along the horizontal axis."
_PLACES = (("wide", 820.0), ("narrow", 340.0))
"""Where charts stand on a page, and how many CSS pixels wide these places are."""
_BESIDE = 400.0


@dataclass(frozen=True)
class Chart:
    """One chart for the page: ``drawings`` are (class, SVG) for wide and narrow places."""

    title: str
    reading: str
    drawings: tuple[tuple[str, Markup], ...]
    table: Grid
    notes: tuple[str, ...]


def chart(figure: Figure, identifier: str) -> Chart:
    """Draw a figure for wide and for narrow places; ids inside begin with ``identifier``."""
    table, note = twin(figure)
    missing = undrawable(figure)
    notes = [note] if note else []
    if missing:
        notes.append(f"{missing} value{'s' if missing > 1 else ''} cannot be drawn: see the table.")
    return Chart(
        figure.title, figure.reading, tuple(_drawings(figure, identifier)), grid(table), tuple(notes)
    )


def key_chart(figure: Figure, identifier: str) -> Markup:
    """Draw a figure to stand beside the headline; ids inside begin with ``identifier``."""
    drawn = drawing(figure, _BESIDE / 72, FONT)
    return inline(drawn, figure.title, describe(figure), identifier, kind=figure.kind, full=_BESIDE)


def _drawings(figure: Figure, identifier: str) -> Iterator[tuple[str, Markup]]:
    if not has_marks(figure):
        return
    description = describe(figure)
    for name, width in _PLACES:
        drawn = drawing(figure, width / 72, FONT)
        yield (
            name,
            inline(drawn, figure.title, description, f"{identifier}:{name}", kind=figure.kind, full=width),
        )


def undrawable(figure: Figure) -> int:
    """Count the values that have no place in the chart: not finite, or not positive on a log axis."""
    if figure.kind == "heatmap":
        return 0
    return sum(len(series.x) - sum(1 for _ in rows_of(figure, series)) for series in figure.series)


def describe(figure: Figure) -> str:
    """Say in words what a chart shows: kind, axes, series with their first and last values."""
    names = {
        "line": "Line chart",
        "bar": "Bar chart",
        "scatter": "Scatter plot",
        "polar": "Polar chart",
        "heatmap": "Heat map",
    }
    if figure.kind == "heatmap":
        rows, columns = len(figure.matrix), max(map(len, figure.matrix), default=0)
        value = figure.value_label or "value"
        size = f"{rows} rows ({figure.y.label}) by {columns} columns ({figure.x.label})"
        return f"{names['heatmap']} of {value}, {size}."
    parts = [f"{names[figure.kind]} of {figure.y.label} against {figure.x.label}."]
    for series in figure.series[: len(HUES)]:
        if series.y:
            first, last = (
                f"{number(series.y[i], 4, trim=True)} at {position(figure.x, series.x[i])}" for i in (0, -1)
            )
            parts.append(f"{series.label or figure.y.label}: from {first} to {last}.")
    return " ".join(parts)


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
        for suffix, role, values in (
            ("", "", series.y),
            (", low", ", the lower end of its band or whisker", series.low),
            (", high", ", the upper end of its band or whisker", series.high),
        ):
            if values or not suffix:
                name = series.label or figure.y.label
                columns.append(Column(name + suffix, help=f"{figure.y.label}{role}.", digits=4))
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
        return position(axis, place)
    return int(place) if place.is_integer() and abs(place) < 1e15 else place
