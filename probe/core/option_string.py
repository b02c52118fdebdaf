"""Options written after a name: ``name?key=value&key=value``."""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any

from probe.core.errors import UsageError


def parse_options(query: str, text: str, plain: Collection[str] = ()) -> dict[str, Any]:
    """Return the options in ``key=value&key=value``; ``text`` is the whole word, for the error message.

    Values are Python literals where they are ones, else text; those of the keys in ``plain`` are text always.
    Raises UsageError for anything else, and for a key that is given twice.
    """
    options: dict[str, Any] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not (equals and key.isidentifier()):
            raise UsageError(f"'{part}' in '{text}' is not of the form key=value.")
        if key in options:
            raise UsageError(f"'{key}' is given twice in '{text}'.")
        found = _value(value)
        options[key] = value if key in plain and not isinstance(found, str) else found
    return options


def _value(text: str) -> Any:
    """Return a Python literal where the text is one, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
