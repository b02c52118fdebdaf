"""How charts look: the page's colours by role, sizes, how texts are cut to fit."""

from __future__ import annotations

import unicodedata
from typing import Any

from probe.report.text import visible

HUES = ("#1367aa", "#d64705", "#168458", "#9e3e77", "#927916", "#4490e3", "#474a62")
"""Series beyond this many repeat a colour with another dash and marker."""
INK, SOFT, LINE, STRONG_LINE, MISSING = "#171c21", "#535e69", "#dde2e6", "#aeb7bf", "#eef0f2"
PAPER = "#ffffff"
ON_DARK, ON_LIGHT = "#fdfdfd", "#030303"
"""Words on coloured cells: they stay as they are where the page turns dark, so they are not the paper's white."""

ROLES = {
    **{hue: f"hue{index}" for index, hue in enumerate(HUES)},
    INK: "ink",
    SOFT: "soft",
    LINE: "line",
    STRONG_LINE: "strong-line",
    MISSING: "none-ground",
    PAPER: "paper",
}
"""Each colour and the variable of the page's style sheet (templates/page.css) that holds it, in light and in dark."""

DASHES: tuple[Any, ...] = ("solid", (0, (3.5, 1.5)), (0, (1, 1.5)), (0, (4.5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D")

FONT = 12.0
"""Height of letters in the units of a design, which are CSS pixels on the page."""


def settings(unit: float) -> dict[str, Any]:
    """Return matplotlib's settings where one unit of the design is ``unit`` points."""
    return {
        "font.size": FONT * unit,
        "axes.labelsize": FONT * unit,
        "axes.labelcolor": INK,
        "axes.labelpad": 6 * unit,
        "axes.edgecolor": STRONG_LINE,
        "axes.linewidth": unit,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": unit,
        "lines.linewidth": 2 * unit,
        "lines.solid_joinstyle": "round",
        "legend.fontsize": FONT * unit,
        "legend.labelcolor": INK,
        "text.color": INK,
        "text.parse_math": False,
        "figure.facecolor": PAPER,
        "svg.fonttype": "none",
        "svg.hashsalt": "probe",
        "svg.image_inline": True,
        "pdf.fonttype": 42,
        **{f"{axis}tick.{what}": value for axis in "xy" for what, value in _ticks(unit).items()},
    }


def _ticks(unit: float) -> dict[str, Any]:
    return {
        "labelsize": FONT * unit,
        "labelcolor": SOFT,
        "major.size": 0,
        "minor.size": 0,
        "major.pad": 6 * unit,
    }


def text_width(text: str, size: float = FONT) -> float:
    """Estimate how wide a text is, in the unit of ``size``; generous, because the reader's font is not known."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    thin = sum(sign in "iIl.,:;'|!()[]tfjr1 -" for sign in text)
    return size * (1.0 * wide + 0.36 * thin + 0.6 * (len(text) - wide - thin))


def fit(text: str, width: float) -> str:
    """Return a text on one line, cut in its middle so that it fits; both ends of a layer's name tell something."""
    text = " ".join(visible(text).split())
    if text_width(text) <= width:
        return text
    keep = min(len(text), int(width / (0.3 * FONT)) + 2)
    while keep > 3 and text_width(_cut(text, keep)) > width:
        keep -= 1
    return _cut(text, keep)


def lines(text: str, width: float) -> str:
    """Return a text on one line, or broken into two at a space where it is longer; what does not fit then is cut."""
    words = visible(text).split()
    if text_width(" ".join(words)) <= width or len(words) < 2:
        return fit(text, width)
    pairs = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    return "\n".join(fit(part, width) for part in min(pairs, key=lambda pair: max(map(text_width, pair))))


def _cut(text: str, keep: int) -> str:
    head = (keep + 1) // 2
    return f"{text[:head]}…{text[len(text) - (keep - head) :]}"
