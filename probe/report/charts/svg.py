"""SVG elements as escaped text: presentation attributes only, because the page's policy forbids styles."""

from __future__ import annotations

import math
import unicodedata

from markupsafe import Markup, escape

from probe.report.text import visible


def tag(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return one element; text children and attribute values are escaped, None leaves an attribute out.

    A trailing underscore is dropped and other underscores become hyphens: ``class_``, ``stroke_width``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(child if isinstance(child, Markup) else escape(visible(child)) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>")


def _attribute(value: str | float) -> str:
    return str(escape(visible(value))) if isinstance(value, str) else short(value)


def short(value: float) -> str:
    """Write a coordinate with at most two decimals; raises ValueError when it is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"a coordinate is {value}")
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def join(*parts: Markup) -> Markup:
    """Put elements one after the other."""
    return Markup("").join(parts)


def path(points: list[tuple[float, float]], close: bool = False) -> str:
    """Return the path data of a polyline through the points."""
    steps = "L".join(f"{short(x)} {short(y)}" for x, y in points)
    return f"M{steps}{'Z' if close else ''}"


def text_width(text: str, size: float) -> float:
    """Estimate how wide a text is in CSS pixels; generous, because the reader's font is not known."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    thin = sum(sign in "iIl.,:;'|!()[]tfjr1 -" for sign in text)
    return size * (1.0 * wide + 0.36 * thin + 0.6 * (len(text) - wide - thin))


def fitted(text: str, width: float, size: float) -> str:
    """Cut a text in its middle so that it fits; both ends of a layer's name tell something."""
    text = visible(text)
    if text_width(text, size) <= width:
        return text
    keep = min(len(text), int(width / (0.3 * size)) + 2)
    while keep > 3 and text_width(_cut(text, keep), size) > width:
        keep -= 1
    return _cut(text, keep)


def _cut(text: str, keep: int) -> str:
    head = (keep + 1) // 2
    return f"{text[:head]}…{text[len(text) - (keep - head) :]}"
