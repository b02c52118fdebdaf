"""Look at the filters: ``run(model, images, FiltersConfig(...))`` returns a Report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.filters.study import run as run
    from studies.filters.workspace import FiltersConfig as FiltersConfig

_LAZY = {"run": "studies.filters.study", "FiltersConfig": "studies.filters.workspace"}

__all__ = ["FiltersConfig", "run"]


def __getattr__(name: str) -> Any:
    """Import the study when it is first used; listing the views must not load torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'studies.filters' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
