"""From data values to coordinates, with the ticks a reader expects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from probe.core.document import Axis
from probe.report.text import MINUS, number

Tick = tuple[float, str]
Reach = Literal["tight", "round", "zero"]

_LARGEST = 1e100
"""Beyond this, differences overflow; such values are no measurements and are not drawn."""


@dataclass(frozen=True)
class Scale:
    """A mapping of [low, high] onto [start, end] (CSS pixels), linear or logarithmic, and its ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value; values that a log scale cannot show raise ValueError."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def shows(self, value: float) -> bool:
        """Tell whether the value has a place on this scale."""
        slack = 1e-6 * (self.high - self.low)
        inside = drawable(value) and self.low - slack <= value <= self.high + slack
        return inside and (not self.log or value > 1 / _LARGEST)


def drawable(value: float) -> bool:
    """Tell whether a value is finite and of a size that can be drawn."""
    return math.isfinite(value) and abs(value) <= _LARGEST


def scale_for(
    values: Iterable[float], axis: Axis, start: float, end: float, *, spacing: float, reach: Reach = "round"
) -> Scale:
    """Return the scale for one axis, with a tick about every ``spacing`` pixels.

    Categories get a slot each. ``reach`` says how far a linear scale goes: 'tight' as far as the
    values, 'round' to the next ticks and to zero when that is near, 'zero' always to zero (bars).
    Values that cannot be drawn are ignored.
    """
    if axis.categories:
        return category_scale(axis.categories, start, end)
    room = max(2, int(abs(end - start) / spacing))
    finite = [value for value in values if drawable(value)]
    if axis.scale == "log":
        positive = [value for value in finite if value > 1 / _LARGEST]
        if positive:
            return _logarithmic(positive, start, end, max(room, int(abs(end - start) / 48)))
    return _linear(finite or [0.0, 1.0], start, end, room, reach)


def category_scale(names: Sequence[str], start: float, end: float) -> Scale:
    """Return a scale with one slot for each name, at 0, 1, 2 …"""
    ticks = tuple((float(index), name) for index, name in enumerate(names))
    return Scale(-0.5, len(names) - 0.5, start, end, ticks)


def _linear(values: list[float], start: float, end: float, room: int, reach: Reach) -> Scale:
    low, high = _range(min(values), max(values), reach)
    places = _even_ticks(low, high, room, all(float(value).is_integer() for value in values))
    if reach == "tight":
        places = [place for place in places if low <= place <= high] or [low, high]
    low, high = min(low, places[0]), max(high, places[-1])
    step = places[1] - places[0] if len(places) > 1 else abs(high - low)
    return Scale(low, high, start, end, tuple((place, tick_label(place, step)) for place in places))


def _range(low: float, high: float, reach: Reach) -> tuple[float, float]:
    near = reach == "round" and (0 <= low < 0.3 * high or 0.3 * low < high <= 0)
    if reach == "zero" or near:
        low, high = min(low, 0.0), max(high, 0.0)
    if reach != "tight" and low >= 0 and 0.6 <= high <= 1:
        high = 1.0
    if high - low <= 1e-9 * max(abs(low), abs(high)) or high - low < 1 / _LARGEST:
        half = abs(low) / 2 if abs(low) > 1 / _LARGEST else 0.5
        return low - half, high + half
    return low, high


def _even_ticks(low: float, high: float, room: int, whole: bool) -> list[float]:
    """Return round ticks; between whole numbers there are none where the values are whole."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(nbins=min(room, 9), steps=[1, 2, 2.5, 5, 10], integer=whole)
    places = [float(place) for place in locator.tick_values(low, high)]
    slack = 0.35 * (places[1] - places[0]) if len(places) > 1 else 0.0
    places = [place for place in places if low - slack <= place <= high + slack] or places
    return [0.0 if abs(place) < 1e-12 * max(abs(low), abs(high)) else place for place in places]


def _logarithmic(values: list[float], start: float, end: float, room: int) -> Scale:
    low, high = min(values), max(values)
    if low == high:
        low, high = low / 2, high * 2
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first + 1) / room))
    mantissas: tuple[int, ...] = (1, 2, 5) if last - first <= room / 3 else (1,)
    places = [m * 10.0**power for power in range(first, last + 1, stride) for m in mantissas]
    inside = [place for place in places if low / 1.3 <= place <= high * 1.3]
    if len(inside) < 2:
        inside = [10.0**first, 10.0**last]
    low, high = min(low, inside[0]), max(high, inside[-1])
    return Scale(low, high, start, end, tuple((place, tick_label(place, place)) for place in inside), True)


def tick_label(value: float, step: float) -> str:
    """Write a tick with as many decimals as its step needs; far from one, as a power of ten."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(step) < 1e6 or abs(value) >= 1e7:
        return number(value, 4, trim=True).removeprefix("1 × ")
    decimals = 0
    while decimals < 6 and not math.isclose(round(step, decimals), step, rel_tol=1e-6):
        decimals += 1
    return f"{value:,.{decimals}f}".replace("-", MINUS)
