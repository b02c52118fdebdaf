"""Fragments of the page: stable, readable and unique."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote

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
