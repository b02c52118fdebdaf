"""A drawing as SVG for the page: no style attributes, the page's own colours, ids of its own, values on the marks."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup

from probe.report.charts.draw import Drawing, quiet
from probe.report.charts.looks import ROLES
from probe.report.text import visible

_LONG = re.compile(r"-?\d+\.\d{3,}")
_SPACES = re.compile(r"\s+")
_LINK = re.compile(r"^#(.+)|^url\(#(.+)\)$")
_NUMBERS = {"d", "x", "y", "width", "height", "transform"}
_NEEDLESS = {"metadata", "style"}


def inline(drawing: Drawing, title: str, description: str, own: str, *, kind: str, full: float) -> Markup:
    """Return a drawing as one SVG image with a name and a description; every id in it begins with ``own``.

    It takes its share of a place that is ``full`` points wide. Colours of the page's palette become the classes
    ``fill-hue0``, ``stroke-ink`` …, so that they follow the page into the dark.
    """
    root = _parse(drawing)
    wide = float(root.attrib["viewBox"].split()[2])
    links = (_LINK.match(element.get(name, "")) for element in root.iter() for name in ("href", "clip-path"))
    linked = {match[1] or match[2] for match in links if match}
    for element in list(root.iter()):
        _mark(element, drawing.sentences)
    for element in root.iter():
        _dress(element, linked, own)
    root[:] = _unwrap(root)
    named = [Element(tag, id=f"{own}-{tag}") for tag in ("title", "desc")]
    named[0].text, named[1].text = visible(title), visible(description)
    root[:] = [*named, *root]
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": f"{100 * wide / full:.4g}%",
        "role": "img",
        "aria-labelledby": f"{own}-title {own}-desc",
        "class": "plot",
        "data-kind": kind,
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _parse(drawing: Drawing) -> Element:
    """Let matplotlib write the drawing and read it back, without namespaces, white space and what only viewers need."""
    buffer = io.StringIO()
    with quiet():
        drawing.canvas.patch.set_visible(False)
        for axes in drawing.canvas.axes:
            axes.patch.set_visible(False)
        drawing.canvas.savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.tail = None
        if element.tag != "text":
            element.text = None
    for path in root.iterfind(".//defs/path"):
        path.attrib.pop("style", None)  # it takes the look of the element that uses it
    for parent in list(root.iter()):
        parent[:] = [child for child in parent if child.tag not in _NEEDLESS]
    return root


def _mark(group: Element, sentences: dict[str, list[str]]) -> None:
    """Give the shapes of a named artist its kind as their class, and each mark its sentence."""
    kind = group.get("id", "").partition(":")[0]
    if group.tag != "g" or kind not in ("bar", "point", "cell", "band"):
        return
    marks = [shape for shape in group.iter() if shape.tag == ("use" if kind == "point" else "path")]
    if kind == "point":
        for path in group.iterfind("path"):
            path.set("class", "line")
    for mark in marks:
        mark.set("class", kind)
    for mark, sentence in zip(marks, sentences.get(group.attrib["id"], ()), strict=False):
        ElementTree.SubElement(mark, "title").text = visible(sentence)


def _unwrap(group: Element) -> list[Element]:
    """Return what a group holds, without the groups in it that say nothing."""
    children = []
    for child in group:
        if child.tag == "defs" and not len(child):
            continue
        if child.tag == "g":
            child[:] = _unwrap(child)
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    return children


def _dress(element: Element, linked: set[str], own: str) -> None:
    """Turn an element's style into attributes and classes, shorten its numbers and make its id the figure's own."""
    declarations = (part.partition(":") for part in element.attrib.pop("style", "").split(";"))
    look = {name.strip(): value.strip() for name, colon, value in declarations if colon}
    look.pop("font-family", None)
    classes = element.attrib.pop("class", "").split()
    if "point" in classes and look.get("fill-opacity") == "0":
        classes.append("faint")
        look = {name: value for name, value in look.items() if not name.endswith("opacity")}
    for name in ("fill", "stroke"):
        if look.get(name) in ROLES:
            classes.append(f"{name}-{ROLES[look.pop(name)]}")
    element.attrib |= look
    if classes:
        element.set("class", " ".join(classes))
    name = element.attrib.pop("id", "")
    if name in linked:
        element.set("id", f"{own}-{name}")
    if element.get("href", "").startswith("#"):
        element.set("href", f"#{own}-{element.attrib['href'][1:]}")
    elif "href" in element.attrib:
        element.set("href", _SPACES.sub("", element.attrib["href"]))
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("(#", f"(#{own}-"))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for name in _NUMBERS & element.attrib.keys():
        element.set(
            name,
            _SPACES.sub(" ", _LONG.sub(lambda match: f"{float(match[0]):.2f}", element.attrib[name])).strip(),
        )
