"""The registry of causes; importing this loads no torch, so ``--help`` can list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.tools.doctor.diagnosis import Diagnosis
    from probe.tools.doctor.evidence import TrainingEvidence


class Examiner(Protocol):
    """One cause: looks at the evidence, returns a Diagnosis; may raise NotApplicableError."""

    def __call__(self, evidence: TrainingEvidence) -> Diagnosis:
        """Say whether the evidence speaks for this cause."""
        ...


CAUSES: Registry[Examiner] = Registry("cause", "probe.tools.doctor.causes")
"""In the order in which one cause can bring about another: data, weights, operations, gradients, updates."""
