"""From the words that a user types to what a source is asked for."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probe.core.errors import UsageError
from probe.core.words import parse_options

FILE = "file"
"""The source of networks in the user's own Python files and packages; it has no prefix to type."""


@dataclass(frozen=True)
class ModelName:
    """A model's name, read: ``source`` is None for a bare name; ``options`` go to the factory."""

    text: str
    source: str | None
    target: str
    options: dict[str, Any] = field(default_factory=dict)


def parse_name(text: str, sources: Collection[str]) -> ModelName:
    """Read a model's name: ``NAME``, ``SOURCE:NAME``, ``net.py:FACTORY`` or ``package.module:FACTORY``.

    Each form may be followed by ``?key=value&key=value``. ``sources`` are the prefixes that are
    known. Raises UsageError for anything else.
    """
    head, mark, query = text.strip().partition("?")
    options = parse_options(query, text) if mark else {}
    prefix, colon, rest = head.partition(":")
    if colon and prefix in sources:
        if not rest:
            raise UsageError(f"'{text}' names a source but no network: write {prefix}:NAME.")
        return ModelName(text, prefix, rest, options)
    if colon:
        return ModelName(text, FILE, _factory_target(head, sources), options)
    if not head:
        raise UsageError("The model's name is empty. `probe models` lists the names that can be loaded.")
    if head.endswith(".py"):
        raise UsageError(
            f"'{text}' names a file but no function: write {head}:FUNCTION.{_functions_in(head)}"
        )
    if "/" in head:
        raise UsageError(
            f"'{text}' is not a model's name. For the Hugging Face hub write hf-hub:{head}; for your own "
            "network write path/to/net.py:FUNCTION; for a file of weights use --weights."
        )
    return ModelName(text, None, head, options)


def _factory_target(head: str, sources: Collection[str]) -> str:
    place, _, factory = head.rpartition(":")
    if not factory.isidentifier():
        raise UsageError(
            f"'{head}' does not end in the name of a function: write {place or 'net.py'}:FUNCTION."
        )
    dotted = all(part.isidentifier() for part in place.split("."))
    if not (place.endswith(".py") or dotted):
        raise UsageError(
            f"'{place}' in '{head}' is neither a source of models ({', '.join(sorted(sources))}) nor a "
            "Python file (path/to/net.py) nor a module (package.module)."
        )
    return head


def _functions_in(path: str) -> str:
    """Return a sentence that names the functions and classes at the top of a Python file, or nothing."""
    try:
        body = ast.parse(Path(path).expanduser().read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return ""
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [name for name in names if not name.startswith("_")]
    return f" It defines {', '.join(public[:6])}." if public else ""
