"""Axes: how far they go, where their ticks stand and what is written there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullLocator

from probe.core.blocks import Axis
from probe.report.charts.looks import fit, lines, text_width
from probe.report.text import MINUS, number, visible

Reach = Literal["tight", "round", "zero"]

_LARGEST = 1e100
"""Beyond this, differences overflow; such values are no measurements and are not drawn."""
_TURNED = 110.0
"""The longest turned name, in units of the design."""


def drawable(value: float, axis: Axis | None = None) -> bool:
    """Tell whether a value has a place on an axis: finite, positive on a log axis, a category that there is."""
    if not math.isfinite(value) or abs(value) > _LARGEST:
        return False
    if axis is None:
        return True
    if axis.categories:
        return -0.5 <= value <= len(axis.categories) - 0.5
    return axis.scale == "linear" or value > 1 / _LARGEST


class TickNumbers(Formatter):
    """Ticks as readers expect them: ``1,000``, ``−0.50``, ``2 × 10⁻⁵``."""

    def __init__(self, *, log: bool = False) -> None:
        self.log = log

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Write one value, such as the one under the pointer."""
        return number(float(x), 4, trim=True)

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        """Write all ticks of an axis, with as many decimals as their step needs."""
        places = [float(value) for value in values]
        step = places[1] - places[0] if len(places) > 1 else 1.0
        return [tick_label(place, place if self.log else step) for place in places]


def tick_label(value: float, step: float) -> str:
    """Write a tick with as many decimals as its step needs; far from one, as a power of ten."""
    if value == 0 or abs(value) < 1e-9 * abs(step):
        return "0"
    if not 1e-4 <= abs(step) < 1e6 or abs(value) >= 1e7:
        return number(value, 4, trim=True).removeprefix("1 × ")
    decimals = 0
    while decimals < 6 and not math.isclose(round(step, decimals), step, rel_tol=1e-6):
        decimals += 1
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def set_axis(
    axes: Axes,
    which: Literal["x", "y"],
    axis: Axis,
    values: Iterable[float],
    length: float,
    reach: Reach,
    pad: float = 0,
) -> None:
    """Give one of the axes its label, range and ticks.

    Categories get a slot each. ``reach`` says how far a linear axis goes: 'tight' as far as the values and ``pad``
    further, 'round' to the next ticks and to zero when that is near, 'zero' always to zero (bars). ``length`` is
    about the axis' own, in units of the design; a tick stands about every 46 (upright) or 76 of them.
    """
    own = axes.xaxis if which == "x" else axes.yaxis
    own.set_label_text(lines(axis.label, length))
    if axis.categories:
        set_names(axes, which, axis.categories, length, **({"most": pad} if which == "y" and pad else {}))
        return
    shown = [float(value) for value in values if drawable(value, axis)]
    room = max(2, int(length / (76 if which == "x" else 46)))
    log = axis.scale == "log" and bool(shown)
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    if log:
        _set_log(axes, which, low, high, room)
    else:
        low, high = _range(low, high, reach)
        locator = MaxNLocator(
            min(room, 9), steps=[1, 2, 2.5, 5, 10], integer=all(v.is_integer() for v in shown)
        )
        if reach == "tight":
            low, high = low - pad - 0.012 * (high - low), high + pad + 0.012 * (high - low)
        else:
            places = _near(locator.tick_values(low, high), low, high)
            low, high = min(low, places[0]), max(high, places[-1])
        own.set_major_locator(locator)
        _limit(axes, which, low, high)
    own.set_major_formatter(TickNumbers(log=log))


def _near(places: Sequence[float], low: float, high: float) -> list[float]:
    """Leave out ticks that lie far outside the values."""
    slack = 0.35 * (places[1] - places[0]) if len(places) > 1 else 0.0
    return [place for place in places if low - slack <= place <= high + slack] or list(places)


def _limit(axes: Axes, which: str, low: float, high: float) -> None:
    axes.set_xlim(low, high) if which == "x" else axes.set_ylim(low, high)


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


def _set_log(axes: Axes, which: str, low: float, high: float, room: int) -> None:
    own = axes.xaxis if which == "x" else axes.yaxis
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    if low == high:
        low, high = low / 2, high * 2
    few = math.log10(high) - math.log10(low) <= room / 3
    own.set_major_locator(LogLocator(10, (1, 2, 5) if few else (1,), numticks=room))
    own.set_minor_locator(NullLocator())
    margin = (high / low) ** 0.02
    _limit(axes, which, low / margin, high * margin)


def set_names(
    axes: Axes, which: Literal["x", "y"], names: tuple[str, ...], length: float, most: float = _TURNED
) -> None:
    """Write names at 0, 1, 2 …: turned where they are long, and not every one where there are too many.

    Names beside an upright axis, and turned ones, are at most ``most`` long.
    """
    slot = length / len(names)
    _limit(axes, which, -0.5, len(names) - 0.5)
    if which == "y":
        every, limit, turned = math.ceil(14 / slot), most, False
    else:
        turned = not names_fit(names, slot)
        every, limit = (math.ceil(16 / slot), most) if turned else (1, slot)
    places = range(0, len(names), max(1, every))
    labels = [fit(names[place], limit) for place in places]
    if which == "y":
        axes.set_yticks(list(places), labels)
    elif turned:
        axes.set_xticks(list(places), labels, rotation=40, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(list(places), labels)


def names_fit(names: tuple[str, ...], slot: float) -> bool:
    """Tell whether names fit side by side into slots of a width."""
    return max(text_width(visible(name)) for name in names) <= slot - 6
