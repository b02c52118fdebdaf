"""The registries of views and checks; importing this loads no torch, so ``--help`` can list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.registry import Registry

if TYPE_CHECKING:
    from studies.adversarial.evidence import Evidence
    from studies.adversarial.workspace import AdversarialWorkspace
    from studies.base import Checker, View

VIEWS: Registry[View[AdversarialWorkspace]] = Registry("view", "studies.adversarial.views")
CHECKS: Registry[Checker[Evidence]] = Registry("check", "studies.adversarial.checks")
