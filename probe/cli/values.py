"""The values of options: lists of numbers and names, sizes, ``auto`` and ``all``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic in newer releases only


class Numbers(_ParamType):
    """Numbers separated by commas, such as ``0.485,0.456,0.406``."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | float, ...]:
        """Parse the text; click reports invalid values."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers separated by commas", param, ctx)


class NameList(_ParamType):
    """Names separated by commas."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split at commas; empty parts are an error."""
        if isinstance(value, tuple):
            return value
        parts = tuple(part.strip() for part in str(value).split(","))
        if not all(parts):
            self.fail(f"'{value}' has an empty name", param, ctx)
        return parts


class Auto(_ParamType):
    """``auto`` (None), or a value of another type."""

    def __init__(self, inner: _ParamType) -> None:
        self.inner = inner
        self.name = f"auto|{inner.name}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return None for ``auto``."""
        return None if value is None or value == "auto" else self.inner.convert(value, param, ctx)


class CountOrAll(_ParamType):
    """A number of at least 1, or ``all``."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; for ``all``, one that no set of images has."""
        return sys.maxsize if value == "all" else click.IntRange(min=1).convert(value, param, ctx)


class Size(_ParamType):
    """A side length such as ``224``, or ``height,width``."""

    name = "side"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return one side length, or (height, width)."""
        sides = Numbers(int).convert(value, param, ctx)
        if len(sides) > 2 or min(sides) < 1:
            self.fail(f"'{value}' is neither a side length nor height,width", param, ctx)
        return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
