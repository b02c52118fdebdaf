"""Tables of numbers, strips and small charts as SVG that is the same on every run, without touching pyplot."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

Array = NDArray[np.float64]
Place = tuple[int, int]

CELL = 28  # points; 18 cells are 504 points or 672 pixels wide
WIDTH = 18
INK = "#222222"
STRONG = "#c2255c"
NOTHING = "#e9e9e9"
POSITIVE = (0.27, 0.51, 0.78)
NEGATIVE = (0.90, 0.48, 0.13)
# Light enough for dark figures on them; neighbours differ in hue and lightness.
TINTS = (
    "#cfe3f7",
    "#ffd9a8",
    "#c5e8c9",
    "#f7c6d4",
    "#e3d5f5",
    "#fff3a3",
    "#bfe9ea",
    "#e8d3bd",
    "#d7d9dd",
)
STYLE = {
    "svg.hashsalt": "by hand",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.unicode_minus": True,
    "mathtext.fontset": "dejavusans",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the figures' settings, whatever the reader's own are, and put those back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def svg(figure: Figure) -> str:
    """Return a figure as SVG text without a date."""
    held = io.StringIO()
    figure.savefig(held, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in held.getvalue().splitlines()) + "\n"


def plain(value: float) -> str:
    """Write a number with at most two decimals and a true minus sign."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def tint(value: float, largest: float) -> tuple[float, ...]:
    """Return white for zero, towards blue for positive and orange for negative numbers; never too dark for ink."""
    share = 0.6 * min(1.0, abs(value) / largest) if largest else 0.0
    full = POSITIVE if value > 0 else NEGATIVE
    return tuple(1 - share * (1 - part) for part in full)


class Sheet:
    """A white sheet measured in cells, x to the right and y down."""

    def __init__(self, height: float, width: float = WIDTH) -> None:
        self.figure = Figure(figsize=(width * CELL / 72, height * CELL / 72), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()

    def text(
        self, x: float, y: float, words: str, size: float = 9.5, align: str = "center", color: str = INK
    ) -> None:
        """Write words centred at a point, or beginning or ending there."""
        self.axes.text(x, y, words, ha=align, va="center_baseline", fontsize=size, color=color)

    def table(
        self,
        x: float,
        y: float,
        values: Array,
        title: str = "",
        *,
        fills: Mapping[Place, str] | None = None,
        strong: Collection[Place] = (),
        empty: Collection[Place] = (),
    ) -> None:
        """Draw a table with its upper left corner at (x, y) and a title above it.

        ``fills`` are colours of cells in place of the tint of their value; ``strong`` cells have thick edges;
        ``empty`` ones are grey and without their number.
        """
        rows, columns = values.shape
        largest = float(np.abs(values).max())
        for r, c in sorted(np.ndindex(rows, columns), key=lambda place: place in strong):
            colour = (fills or {}).get((r, c), tint(float(values[r, c]), largest))
            self._cell(x + c, y + r, NOTHING if (r, c) in empty else colour, (r, c) in strong)
            if (r, c) not in empty:
                self.text(x + c + 0.5, y + r + 0.52, plain(float(values[r, c])), size=9)
        for i, line in enumerate(reversed(title.split("\n"))):
            self.text(x + columns / 2, y - 0.35 - 0.48 * i, line)

    def _cell(self, x: float, y: float, colour: str | tuple[float, ...], strong: bool) -> None:
        edge, line = (STRONG, 2.2) if strong else ("#777777", 0.6)
        self.axes.add_patch(Rectangle((x, y), 1, 1, fc=colour, ec=edge, lw=line, zorder=2 if strong else 1))

    def strips(self, x: float, y: float, rows: Sequence[tuple[str, Array]], grey: NDArray[np.bool_]) -> None:
        """Draw rows of numbers under each other, named at the left; ``grey`` columns of them are greyed."""
        for i, (name, values) in enumerate(rows):
            at = y + 1.15 * i
            self.text(x - 0.3, at + 0.52, name, align="right")
            fills = {(0, int(c)): NOTHING for c in np.flatnonzero(grey)}
            self.table(x, at, values[None], fills=fills)


def bars(axes: Axes, values: Array, width: float = 0.8, shift: float = 0.0, colour: str = "#4682b4") -> None:
    """Draw one bar a value at 0, 1, 2 … with a line at zero."""
    places = np.arange(len(values))
    axes.bar(places + shift, values, width, color=colour, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.8)


def quiet(axes: Axes, title: str, x: str, y: str = "") -> None:
    """Name an axis pair and take away what carries no number."""
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
