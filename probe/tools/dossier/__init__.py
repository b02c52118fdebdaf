"""All three studies of one network, and how their results relate: ``run(model, images)`` returns a Dossier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.tools.dossier.choose import DossierConfig as DossierConfig
    from probe.tools.dossier.study import Dossier as Dossier
    from probe.tools.dossier.study import run as run

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "run": "probe.tools.dossier.study",
        "Dossier": "probe.tools.dossier.study",
        "DossierConfig": "probe.tools.dossier.choose",
    },
)

__all__ = ["Dossier", "DossierConfig", "run"]
