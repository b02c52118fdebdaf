"""The error for a name that does not exist, with the nearest ones that do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from probe.core.errors import UsageError

_NEAREST = 4


def unknown_name(name: str, kind: str, known: Iterable[str]) -> UsageError:
    """Return the error that says there is no such ``kind``, and what is close to it."""
    near = difflib.get_close_matches(name, dict.fromkeys(known), n=_NEAREST)
    hint = f"Close to it: {', '.join(near)}. " if near else ""
    return UsageError(f"There is no {kind} '{name}'. {hint}`probe models QUERY` lists what there is.")
