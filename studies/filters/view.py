"""What a view is, and the registry of views; importing this loads no torch, so ``--help`` can list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.core.report import Section
    from studies.filters.workspace import Workspace


class View(Protocol):
    """One view: looks at the workspace, returns a Section; may raise NotApplicableError with the reason."""

    def __call__(self, space: Workspace) -> Section:
        """Compute the section."""
        ...


VIEWS: Registry[View] = Registry("view", "studies.filters.views")
