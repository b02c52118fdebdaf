"""Tables as the page shows them: text, alignment on the decimal point, and the value to sort by."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from probe.core.blocks import Cell, Column, Table
from probe.report import text

_MOST_PADDING = 6


@dataclass(frozen=True)
class Shown:
    """One cell: ``pad`` is the number of digits that must stay free at its right for the points to align."""

    text: str
    value: float | int | None = None
    pad: int = 0


@dataclass(frozen=True)
class Head:
    """A column's heading; a numeric column stands at the right."""

    name: str
    unit: str
    help: str
    numeric: bool


@dataclass(frozen=True)
class Grid:
    """A table ready for the template; ``named`` says that the first column names the rows.

    ``ids`` are the rows' own fragments, empty where rows cannot be linked.
    """

    title: str
    reading: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Shown, ...], ...]
    named: bool
    ids: tuple[str, ...] = ()


def grid(table: Table, most_rows: int | None = None) -> Grid:
    """Return the table's text; ``most_rows`` cuts it."""
    rows = table.rows[:most_rows]
    columns = [_column([row[i] for row in rows], column) for i, column in enumerate(table.columns)]
    heads = tuple(
        Head(column.name, column.unit, column.help, any(_numeric(row[i]) for row in rows))
        for i, column in enumerate(table.columns)
    )
    named = bool(rows) and bool(heads) and not heads[0].numeric
    return Grid(table.title, table.reading, heads, tuple(zip(*columns, strict=True)), named)


def _column(cells: list[Cell], column: Column) -> list[Shown]:
    texts = [text.cell(value, column) for value in cells]
    places = [
        _decimals(shown) if _numeric(value) else None for value, shown in zip(cells, texts, strict=True)
    ]
    most = min(max((count for count in places if count is not None), default=0), _MOST_PADDING)
    return [
        Shown(shown, _sort_value(value), max(most - count, 0) if count is not None else 0)
        for value, shown, count in zip(cells, texts, places, strict=True)
    ]


def _numeric(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _sort_value(value: Cell) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _decimals(shown: str) -> int | None:
    """Count the digits after the point; None when a power of ten makes that meaningless."""
    if "×" in shown or not any(sign.isdigit() for sign in shown):
        return None
    return len(shown.rstrip("%").partition(".")[2])
