"""Filters and what excites them: ``run(model, images, FiltersConfig(...))`` returns a Report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from studies.filters.config import FiltersConfig as FiltersConfig
    from studies.filters.study import run as run

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"run": "studies.filters.study", "FiltersConfig": "studies.filters.workspace"},
)

__all__ = ["FiltersConfig", "run"]
