"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, places: Mapping[str, str], modules: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package whose names are defined in the modules of ``places``.

    ``modules`` are names of whole modules. Importing the package does not import any of them.
    """
    submodules = modules or {}

    def load(name: str) -> Any:
        if name in submodules:
            return import_module(submodules[name])
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(places[name]), name)

    return load, lambda: sorted({*places, *submodules})
