"""What views and checks are, and their registries; importing this loads no torch, so ``--help`` can list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.core.document import Check, Section
    from studies.adversarial.evidence import Evidence
    from studies.adversarial.workspace import AdversarialWorkspace


class AdversarialView(Protocol):
    """One part of the report: looks at the workspace, returns a Section; may raise NotApplicableError."""

    def __call__(self, space: AdversarialWorkspace) -> Section:
        """Compute the section."""
        ...


class Checker(Protocol):
    """One statement about the evaluation: looks at the evidence, returns a Check; may raise NotApplicableError."""

    def __call__(self, evidence: Evidence) -> Check:
        """Make the check."""
        ...


VIEWS: Registry[AdversarialView] = Registry("view", "studies.adversarial.views")
CHECKS: Registry[Checker] = Registry("check", "studies.adversarial.checks")
