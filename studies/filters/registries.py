"""The registry of views; importing this loads no torch, so ``--help`` can list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.registry import Registry

if TYPE_CHECKING:
    from studies.base import View
    from studies.filters.workspace import FiltersWorkspace

VIEWS: Registry[View[FiltersWorkspace]] = Registry("view", "studies.filters.views")
