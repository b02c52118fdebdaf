"""What a cause is, and the registry of causes; importing this loads no torch, so ``--help`` can list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.doctor.diagnosis import Diagnosis
    from probe.doctor.evidence import Evidence


class Examiner(Protocol):
    """One cause: looks at the evidence, returns a Diagnosis; may raise NotApplicableError."""

    def __call__(self, evidence: Evidence) -> Diagnosis:
        """Say whether the evidence speaks for this cause."""
        ...


CAUSES: Registry[Examiner] = Registry("cause", "probe.doctor.causes")
