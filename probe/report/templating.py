"""Templates → self-contained HTML: escaped, neutralised, under a policy that admits only the page itself."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from probe.core.blocks import Cell, Column
from probe.core.document import Check, Result, percent
from probe.report import text

_OUTSIDE = re.compile(r"[^A-Za-z0-9._/-]+")


def fragment(text: str) -> str:
    """Turn any text into a fragment of ASCII letters, digits, ``. _ / -``; ``layer2/ch17`` stays as it is."""
    return _OUTSIDE.sub("-", text).strip("-")[:120] or "part"


@dataclass
class Anchors:
    """Hands out each id once; a second request for the same text gets ``-2``, ``-3`` …"""

    taken: set[str] = field(default_factory=set)

    def take(self, text: str) -> str:
        """Return a free id that is as near to ``text`` as can be."""
        base = fragment(text)
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}-{count}"
        self.taken.add(name)
        return name


def href(identifier: str) -> str:
    """Return the link to an id of the same page."""
    return "#" + quote(identifier, safe="/")


_TEMPLATES = Path(__file__).with_name("templates")
_SCRIPTS = ("base", "search", "tables", "pictures", "slides", "charts", "frame")
"""Parts of the page's one script, in the order in which they need each other."""


def render(template: str, extra_css: str = "", **values: Any) -> str:
    """Render a template as one self-contained page whose policy admits only its own style and script."""
    css = Markup(_source("page.css") + extra_css)
    script = Markup(_script())
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    return page.render(css=css, script=script, policy=Markup(policy), **values)


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


@cache
def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    parts = "\n".join(_source(f"script/{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _finalize(value: object) -> object:
    """Neutralise every text that a template shows; a forgotten None is an error."""
    if value is None:
        raise TypeError("a template shows None")
    if isinstance(value, Markup):
        return value
    return text.visible(value) if isinstance(value, str) else value


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        cell=text.cell,
        count=text.number,
        duration=text.duration,
        href=href,
        interval=text.result_interval,
        interval_bar=interval_bar,
        magnitude=text.magnitude,
        moment=text.moment,
        value=text.result_value,
        plain=_plain,
        prose=text.prose,
        words=_words,
    )
    environment.filters["measured"] = _measured
    environment.filters["spoken"] = _spoken
    environment.tests["numeric"] = _numeric
    environment.tests["telling"] = _says_more
    environment.tests["says"] = _says
    return environment


def _spoken(name: str) -> str:
    """Write the name of a result as words; programs and gates take it as it is."""
    return name.replace("_", " ").replace(":", " · ")


def _words(command: str) -> list[str]:
    """Split a command into words, each with the spaces after it, so that lines break between words."""
    return re.findall(r"\S+\s*|^\s+", command)


def _plain(value: object) -> str:
    """Write a config value on one line."""
    if isinstance(value, Mapping):
        return (
            "; ".join(
                f"{_plain(key)}: {f'({_plain(item)})' if isinstance(item, Mapping) else _plain(item)}"
                for key, item in value.items()
            )
            or text.EMPTY
        )
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(_plain, value)) or text.EMPTY
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def is_number(result: Result) -> bool:
    """Tell whether a result has a number to show in large type."""
    return _numeric(result.value)


def _measured(value: Cell) -> str:
    """Write what a check measured."""
    if isinstance(value, float):
        return text.number(value, 3, trim=True)
    return text.cell(value, Column(""))


def _says(sentence: str, why: str) -> bool:
    """Tell whether a sentence repeats what the verdict beside it says."""
    return bool(why) and why in sentence


def _says_more(check: Check) -> bool:
    """Tell whether what a check measured says more than its sentence does."""
    value = check.value
    if value is None or isinstance(value, bool) or value == 0:
        return False
    percentage = percent(value) if isinstance(value, float) and math.isfinite(value) else ""
    forms = (re.escape(form) for form in (_measured(value), str(value), percentage) if form)
    return not re.search(rf"(?<![\w.])({'|'.join(forms)})(?![\w%])", check.detail)


def _numeric(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def interval_bar(result: Result) -> Markup:
    """Draw a proportion and its interval on a line from 0 to 1; empty for other results."""
    if result.unit != "proportion" or not is_number(result) or not text.result_interval(result):
        return Markup("")
    value, (low, high) = float(result.value or 0), result.ci or (0.0, 1.0)
    if not math.isfinite(value):
        return Markup("")
    ends = [4 + 112 * min(max(float(end), 0.0), 1.0) for end in (low, value, high)]
    return Markup(
        '<svg viewBox="0 0 120 16" width="120" height="16" class="interval-bar" aria-hidden="true">'
        '<line x1="4" x2="116" y1="8" y2="8" class="grid"/>'
        f'<line x1="{ends[0]:.2f}" x2="{ends[2]:.2f}" y1="8" y2="8" class="span"/>'
        f'<circle cx="{ends[1]:.2f}" cy="8" r="4" class="dot"/></svg>'
    )
