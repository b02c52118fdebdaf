"""The registry of causes; importing this loads no torch, so ``--help`` can list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.tools.doctor.diagnosis import Diagnosis
    from probe.tools.doctor.evidence import TrainingEvidence


class Examiner(Protocol):
    """A cause: a function from the evidence to a Diagnosis; may raise NotApplicableError."""

    def __call__(self, evidence: TrainingEvidence) -> Diagnosis:
        """Return whether the evidence supports this cause."""
        ...


CAUSES: Registry[Examiner] = Registry("cause", "probe.tools.doctor.causes")
"""The causes, in the order in which one can lead to another: data, weights, operations, gradients, updates."""
