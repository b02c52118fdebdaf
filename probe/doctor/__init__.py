"""Watch a short training run and say what is wrong with it.

``examine(module, images, labels, loss=…)`` is for a training loop of one's own; ``run(model, images,
DoctorConfig(...))`` returns a Report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.doctor.checkup import examine as examine
    from probe.doctor.config import DoctorConfig as DoctorConfig
    from probe.doctor.diagnosis import Diagnosis as Diagnosis
    from probe.doctor.diagnosis import Findings as Findings
    from probe.doctor.study import run as run

_LAZY = {
    "examine": "probe.doctor.checkup",
    "DoctorConfig": "probe.doctor.config",
    "Diagnosis": "probe.doctor.diagnosis",
    "Findings": "probe.doctor.diagnosis",
    "run": "probe.doctor.study",
}

__all__ = ["Diagnosis", "DoctorConfig", "Findings", "examine", "run"]


def __getattr__(name: str) -> Any:
    """Import what is used when it is first used; listing the causes must not load torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'probe.doctor' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
