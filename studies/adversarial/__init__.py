"""Attack a network and know whether to believe it: ``run(model, images, AdversarialConfig(...))`` returns a Report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.adversarial.config import AdversarialConfig as AdversarialConfig
    from studies.adversarial.study import ComparisonModels as ComparisonModels
    from studies.adversarial.study import run as run

_LAZY = {
    "run": "studies.adversarial.study",
    "ComparisonModels": "studies.adversarial.study",
    "AdversarialConfig": "studies.adversarial.config",
}

__all__ = ["AdversarialConfig", "ComparisonModels", "run"]


def __getattr__(name: str) -> Any:
    """Import the study when it is first used; listing views and checks must not load torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'studies.adversarial' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
