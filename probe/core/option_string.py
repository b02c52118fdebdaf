"""Options written after a name: ``name?key=value&key=value``."""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any

from probe.core.errors import UsageError


def parse_options(query: str, text: str, plain: Collection[str] = ()) -> dict[str, Any]:
    """Parse options of the form ``key=value&key=value``; ``text`` is the whole argument, for the error message.

    Values are Python literals if they can be parsed as such, else text; for keys in ``plain`` they are always text.
    Raises UsageError for anything else, and for a repeated key.
    """
    options: dict[str, Any] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not (equals and key.isidentifier()):
            raise UsageError(f"'{part}' in '{text}' is not of the form key=value.")
        if key in options:
            raise UsageError(f"'{key}' is given twice in '{text}'.")
        parsed = _value(value)
        options[key] = value if key in plain and not isinstance(parsed, str) else parsed
    return options


def _value(text: str) -> Any:
    """Return the value of a Python literal, or the text itself if it is not one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
