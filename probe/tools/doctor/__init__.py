"""Diagnose what goes wrong in a short training run.

``examine(module, images, labels, loss=…)`` is for your own module and loss; ``run(model, images,
DoctorConfig(...))`` returns a Report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.tools.doctor.checkup import examine as examine
    from probe.tools.doctor.diagnosis import Diagnosis as Diagnosis
    from probe.tools.doctor.diagnosis import Findings as Findings
    from probe.tools.doctor.plan import DoctorConfig as DoctorConfig
    from probe.tools.doctor.study import run as run

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "examine": "probe.tools.doctor.checkup",
        "DoctorConfig": "probe.tools.doctor.plan",
        "Diagnosis": "probe.tools.doctor.diagnosis",
        "Findings": "probe.tools.doctor.diagnosis",
        "run": "probe.tools.doctor.study",
    },
)

__all__ = ["Diagnosis", "DoctorConfig", "Findings", "examine", "run"]
