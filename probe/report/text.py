"""Plain text and numbers as a reader should see them: nothing invisible, nothing that turns text around."""

from __future__ import annotations

import math
import re
from datetime import datetime
from numbers import Integral

from probe.core.blocks import Cell, Column
from probe.core.document import Result, percent

EMPTY = "–"
MINUS = "−"

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_STACKED = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4})"
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_NEGATIVE = re.compile(r"(?<![^\s(\[=≤≥<>])-(?=\.?\d)")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def visible(text: str) -> str:
    """Show control, direction-changing and invisible characters as signs, and cut towers of accents.

    Line feeds and tabs stay; C0 controls become their control pictures, all others ``⟨U+202E⟩``.
    The result can be encoded as UTF-8 whatever the text was.
    """
    return _STACKED.sub(r"\1…", _UNSEEN.sub(_sign, text.replace("\r\n", "\n")))


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def prose(sentence: str) -> str:
    """Write the hyphens of negative numbers in a sentence as minus signs; those in words, dates and exponents stay."""
    return _NEGATIVE.sub(MINUS, sentence)


def encodable(text: str) -> str:
    r"""Write lone surrogates (undecodable file names) as ``\udcXX``; other text stays as it is."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def number(value: float, digits: int = 3, *, trim: bool = False) -> str:
    """Write a number with ``digits`` significant digits, grouped thousands and a true minus sign.

    Digits before the point are never rounded away and integers are written in full; very large and
    very small numbers get a power of ten. ``trim`` leaves out zeros at the end of the decimals.
    """
    if _is_integer(value):
        return f"{int(value):,}".replace("-", MINUS)
    if math.isnan(value):
        return EMPTY
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    shown = _significant(value, max(digits, 1)).replace("-", MINUS)
    mantissa, times, power = shown.partition(" × ")
    if trim and "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}{times}{power}"


def _is_integer(value: object) -> bool:
    """Numpy's integers count too."""
    return isinstance(value, Integral)


def _significant(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    if -4 <= power < max(digits, 6):
        return f"{value:,.{max(digits - 1 - power, 0)}f}"
    return f"{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"


def cell(value: Cell, column: Column) -> str:
    """Write one table cell; None is an en dash, a truth value yes or no."""
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if column.proportion and math.isfinite(value):
        return percent(value).replace("-", MINUS)
    return number(value, column.digits)


def result_value(result: Result) -> str:
    """Write a result's value with its unit; proportions as percentages."""
    if result.value is None:
        return EMPTY
    if isinstance(result.value, str):
        return f"{result.value} {result.unit}".strip()
    if result.unit == "proportion" and math.isfinite(result.value):
        return percent(float(result.value)).replace("-", MINUS)
    return f"{number(result.value, 4, trim=True)} {result.unit}".strip()


def result_interval(result: Result) -> str:
    """Write a result's interval as ``64 to 95%``; empty when there is none."""
    if result.ci is None or not all(map(math.isfinite, result.ci)):
        return ""
    if result.unit == "proportion":
        low, high = (f"{100 * end:.1f}".replace("-", MINUS) for end in result.ci)
        return f"{low} to {high}%"
    low, high = (number(float(end), 4, trim=True) for end in result.ci)
    return f"{low} to {high}"


def duration(seconds: float) -> str:
    """Write seconds as people say them: ``0.4 s``, ``12 s``, ``2 min 5 s``, ``1 h 2 min``."""
    if not math.isfinite(seconds):
        return EMPTY
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    total_seconds = round(seconds)
    if total_seconds < 60:
        return f"{total_seconds} s"
    if total_seconds < 3600:
        return f"{total_seconds // 60} min {total_seconds % 60} s"
    return f"{total_seconds // 3600} h {total_seconds % 3600 // 60} min"


def magnitude(value: int) -> str:
    """Write a count with its rounded size: ``11,689,512 (11.7 M)``."""
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value:,} ({value / size:.3g} {sign})"
    return f"{value:,}"


def moment(created: str) -> str:
    """Write an ISO date and time as ``23 November 2026, 21:42 UTC``; any other text stays as it is."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    zone = when.tzname() or ""
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}, {when:%H:%M} {zone}".rstrip()
