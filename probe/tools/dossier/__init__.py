"""All three studies of one network, and what they say of each other: ``run(model, images)`` returns a Dossier."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.tools.dossier.choose import DossierConfig as DossierConfig
    from probe.tools.dossier.study import Dossier as Dossier
    from probe.tools.dossier.study import run as run

_LAZY = {
    "run": "probe.tools.dossier.study",
    "Dossier": "probe.tools.dossier.study",
    "DossierConfig": "probe.tools.dossier.choose",
}

__all__ = ["Dossier", "DossierConfig", "run"]


def __getattr__(name: str) -> Any:
    """Import the study when it is first used; the help must not load torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'probe.tools.dossier' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
