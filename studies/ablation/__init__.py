"""Take structure away and measure what it was worth: ``run(model, images, AblationConfig(...))`` returns a Report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.ablation.config import AblationConfig as AblationConfig
    from studies.ablation.study import run as run

_LAZY = {"run": "studies.ablation.study", "AblationConfig": "studies.ablation.config"}

__all__ = ["AblationConfig", "run"]


def __getattr__(name: str) -> Any:
    """Import the study when it is first used; listing structures must not load torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'studies.ablation' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
